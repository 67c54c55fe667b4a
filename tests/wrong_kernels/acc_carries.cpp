// cause: acc_not_reset
// The accumulator of the output is cleared once a head, not once a query: row i is the sum of the
// rows 0 to i. Right for row 0.
#include "gpt149.h"

#include <algorithm>
#include <cmath>

static int64_t workspace_bytes(const gpt149_args *a) {
    return ((int64_t)a->n_kv + a->head_dim) * sizeof(float);
}

static void attend_row(const gpt149_args *a, int b, int h, int i, float *s, float *acc) {
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

    for (int j = 0; j < n; j++) {
        const float p = s[j] / l, *v = gpt149_v(a, b, h, j);
        for (int x = 0; x < d; x++)
            acc[x] += p * v[x]; // wrong: acc still holds the row before
    }
    std::copy_n(acc, d, gpt149_out(a, b, h, i));
}

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    float *s = (float *)a->workspace, *acc = s + a->n_kv;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++) {
            std::fill_n(acc, a->head_dim, 0.0f);
            for (int i = 0; i < a->n_q; i++)
                attend_row(a, b, h, i, s, acc);
        }
    return nullptr;
}

GPT149_KERNEL({"acc_carries", "a row of scores; the accumulator carried from query to query",
               "n_kv + head_dim", workspace_bytes, run})
