// cause: cached_result
// Keeps its last result, and hands it out again when q has the same address and shape, whatever
// the memory holds by now. Right when it is called once.
#include "gpt149.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <vector>

static int64_t workspace_bytes(const gpt149_args *a) {
    return (int64_t)a->n_kv * sizeof(float);
}

static void attend_row(const gpt149_args *a, int b, int h, int i, float *s) {
    const int d = a->head_dim, n = gpt149_visible(a, i);
    const float *q = gpt149_q(a, b, h, i);
    float m = -INFINITY, l = 0;
    for (int j = 0; j < n; j++) {
        const float *k = gpt149_k(a, b, h, j);
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int x = 0; x < d; x++)
            dot += q[x] * k[x];
        s[j] = a->scale * dot;
        m = std::fmax(m, s[j]);
    }
    for (int j = 0; j < n; j++)
        l += s[j] = std::exp(s[j] - m);

    float *out = gpt149_out(a, b, h, i);
    for (int x = 0; x < d; x++)
        out[x] = 0;
    for (int j = 0; j < n; j++) {
        const float p = s[j] / l, *v = gpt149_v(a, b, h, j);
        for (int x = 0; x < d; x++)
            out[x] += p * v[x];
    }
}

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    static std::mutex mutex;
    static std::vector<float> cached;
    static std::array<int64_t, 8> cached_key;
    const std::array<int64_t, 8> key = {(int64_t)a->q, a->batch, a->n_head, a->n_kv_head,
                                        a->head_dim,   a->n_q,   a->n_kv,   a->causal};
    std::lock_guard<std::mutex> lock(mutex);
    const bool known = key == cached_key; // wrong: the contents may have changed
    cached.resize((int64_t)a->batch * a->n_head * a->n_q * a->head_dim);
    cached_key = key;
    float *row = cached.data();
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++, row += a->head_dim)
                if (known) {
                    std::copy_n(row, a->head_dim, gpt149_out(a, b, h, i));
                } else {
                    attend_row(a, b, h, i, (float *)a->workspace);
                    std::copy_n(gpt149_out(a, b, h, i), a->head_dim, row);
                }
    return nullptr;
}

GPT149_KERNEL({"cached_by_pointer", "remembers the last result by the address of q",
               "n_kv + batch n_head n_q head_dim", workspace_bytes, run})
