// cause: strides_ignored
// Ignores every stride: takes q, k, v and out to be contiguous (batch, head, token, dim). Right
// when they are.
#include "gpt149.h"

#include <cmath>

static int64_t workspace_bytes(const gpt149_args *a) {
    return (int64_t)a->n_kv * sizeof(float);
}

// Where row i of head h starts.
static int64_t at(const gpt149_args *a, int64_t heads, int64_t tokens, int b, int h, int i) {
    return ((b * heads + h) * tokens + i) * a->head_dim; // wrong: the strides say where
}

static void attend_row(const gpt149_args *a, int b, int h, int i, float *s) {
    const int d = a->head_dim, n = gpt149_visible(a, i);
    const float *q = (const float *)a->q + at(a, a->n_head, a->n_q, b, h, i);
    const int g = h / (a->n_head / a->n_kv_head);
    float m = -INFINITY, l = 0;
    for (int j = 0; j < n; j++) {
        const float *k = (const float *)a->k + at(a, a->n_kv_head, a->n_kv, b, g, j);
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int x = 0; x < d; x++)
            dot += q[x] * k[x];
        s[j] = a->scale * dot;
        m = std::fmax(m, s[j]);
    }
    for (int j = 0; j < n; j++)
        l += s[j] = std::exp(s[j] - m);

    float *out = (float *)a->out + at(a, a->n_head, a->n_q, b, h, i);
    for (int x = 0; x < d; x++)
        out[x] = 0;
    for (int j = 0; j < n; j++) {
        const float p = s[j] / l;
        const float *v = (const float *)a->v + at(a, a->n_kv_head, a->n_kv, b, g, j);
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

GPT149_KERNEL({"contiguous_assumed", "a row of scores; tensors taken to be contiguous", "n_kv",
               workspace_bytes, run})
