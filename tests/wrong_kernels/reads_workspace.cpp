// cause: workspace_assumed_zero
// Adds the scores to a workspace that it takes to be zero-filled; it arrives uninitialised. Right
// when it happens to hold zeros.
#include "gpt149.h"

#include <cmath>

static int64_t workspace_bytes(const gpt149_args *a) {
    return (int64_t)a->batch * a->n_head * a->n_q * a->n_kv * sizeof(float);
}

static void attend_head(const gpt149_args *a, int b, int h, float *scores) {
    const int n_q = a->n_q, n_kv = a->n_kv, d = a->head_dim;
    for (int i = 0; i < n_q; i++)
        for (int j = 0; j < gpt149_visible(a, i); j++) {
            const float *q = gpt149_q(a, b, h, i), *k = gpt149_k(a, b, h, j);
            float dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int x = 0; x < d; x++)
                dot += q[x] * k[x];
            scores[(int64_t)i * n_kv + j] += a->scale * dot; // wrong: = a->scale * dot
        }
    for (int i = 0; i < n_q; i++) {
        float *s = scores + (int64_t)i * n_kv, m = -INFINITY, l = 0;
        const int n = gpt149_visible(a, i);
        for (int j = 0; j < n; j++)
            m = std::fmax(m, s[j]);
        for (int j = 0; j < n; j++)
            l += s[j] = std::exp(s[j] - m);
        for (int j = 0; j < n; j++)
            s[j] /= l;
    }
    for (int i = 0; i < n_q; i++) {
        float *out = gpt149_out(a, b, h, i);
        for (int x = 0; x < d; x++)
            out[x] = 0;
        for (int j = 0; j < gpt149_visible(a, i); j++) {
            const float p = scores[(int64_t)i * n_kv + j], *v = gpt149_v(a, b, h, j);
            for (int x = 0; x < d; x++)
                out[x] += p * v[x];
        }
    }
}

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    float *scores = (float *)a->workspace; // (batch, n_head, n_q, n_kv)
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++, scores += (int64_t)a->n_q * a->n_kv)
            attend_head(a, b, h, scores);
    return nullptr;
}

GPT149_KERNEL({"reads_workspace", "all scores of all heads, added up in the workspace",
               "batch n_head n_q n_kv", workspace_bytes, run})
