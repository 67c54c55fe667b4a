// naive: the definition, written down. For one head at a time, all n_q x n_kv scores are stored,
// each row is made a softmax, and the rows weigh V. Serial.
//
// Bottleneck: the scores go to memory and come back twice; every key row is read n_q times.
#include "gpt149.h"

#include <cmath>

static int64_t workspace_bytes(const gpt149_args *a) {
    return (int64_t)a->n_q * a->n_kv * sizeof(float);
}

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    const int n_q = a->n_q, n_kv = a->n_kv, d = a->head_dim;
    float *scores = (float *)a->workspace; // (n_q, n_kv)

    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++) {
            // S = scale Q K^T
            for (int i = 0; i < n_q; i++)
                for (int j = 0; j < gpt149_visible(a, i); j++) {
                    const float *q = gpt149_q(a, b, h, i), *k = gpt149_k(a, b, h, j);
                    float dot = 0;
#pragma omp simd reduction(+ : dot)
                    for (int x = 0; x < d; x++)
                        dot += q[x] * k[x];
                    scores[(int64_t)i * n_kv + j] = a->scale * dot;
                }
            // P = softmax(S), row by row; subtracting the maximum keeps exp from overflowing
            for (int i = 0; i < n_q; i++) {
                float *s = scores + (int64_t)i * n_kv;
                const int n = gpt149_visible(a, i);
                float m = -INFINITY, l = 0;
                for (int j = 0; j < n; j++)
                    m = std::fmax(m, s[j]);
                for (int j = 0; j < n; j++)
                    l += s[j] = std::exp(s[j] - m);
                for (int j = 0; j < n; j++)
                    s[j] /= l;
            }
            // O = P V
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
    return nullptr;
}

GPT149_KERNEL({"naive", "the definition: all scores of a head in memory; serial", "n_q n_kv",
               workspace_bytes, run})
