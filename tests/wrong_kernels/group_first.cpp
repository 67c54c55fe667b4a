// cause: group_mapping
// Head h reads the keys of head h, and of the last key head when there are no more. Right when
// n_kv_head is 1 or n_head.
#include "gpt149.h"

#include <algorithm>
#include <cmath>

static int64_t workspace_bytes(const gpt149_args *a) {
    return (int64_t)a->n_kv * sizeof(float);
}

static void attend_row(const gpt149_args *a, int b, int h, int i, float *s) {
    const int d = a->head_dim, n = gpt149_visible(a, i);
    const float *q = gpt149_q(a, b, h, i);
    const int g = std::min(h, a->n_kv_head - 1); // wrong: h / (n_head / n_kv_head)
    const float *keys = (const float *)a->k + b * a->k_stride[0] + g * a->k_stride[1];
    const float *values = (const float *)a->v + b * a->v_stride[0] + g * a->v_stride[1];
    float m = -INFINITY, l = 0;
    for (int j = 0; j < n; j++) {
        const float *k = keys + j * a->k_stride[2];
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
        const float p = s[j] / l, *v = values + j * a->v_stride[2];
        for (int x = 0; x < d; x++)
            out[x] += p * v[x];
    }
}

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++)
                attend_row(a, b, h, i, (float *)a->workspace);
    return nullptr;
}

GPT149_KERNEL({"group_first", "a row of scores; the last key head for the rest", "n_kv",
               workspace_bytes, run})
