// cause: kv_dtype_ignored
// Takes bfloat16 keys and values for float32, where it should decline or widen them.
#include "gpt149.h"

#include <cmath>

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
    // wrong: if (const char *why = gpt149_only_float32(a)) return why;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++)
                attend_row(a, b, h, i, (float *)a->workspace);
    return nullptr;
}

GPT149_KERNEL({"kv_dtype_ignored", "a row of scores; kv_dtype ignored", "n_kv", workspace_bytes,
               run})
