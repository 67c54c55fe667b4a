// cause: wrong_axis
// The softmax runs down the columns: for each key over the queries that see it, not for each query
// over its keys. Right when n_q = n_kv = 1.
#include "gpt149.h"

#include <algorithm>
#include <cmath>

static int64_t workspace_bytes(const gpt149_args *a) {
    return (int64_t)a->n_q * a->n_kv * sizeof(float);
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
            scores[(int64_t)i * n_kv + j] = a->scale * dot;
        }
    for (int j = 0; j < n_kv; j++) { // wrong: over i, and the three loops within over j
        const int first = a->causal ? std::max(0, j - (n_kv - n_q)) : 0; // query that sees j
        float *s = scores + j, m = -INFINITY, l = 0;
        for (int64_t i = first; i < n_q; i++)
            m = std::fmax(m, s[i * n_kv]);
        for (int64_t i = first; i < n_q; i++)
            l += s[i * n_kv] = std::exp(s[i * n_kv] - m);
        for (int64_t i = first; i < n_q; i++)
            s[i * n_kv] /= l;
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
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            attend_head(a, b, h, (float *)a->workspace);
    return nullptr;
}

GPT149_KERNEL({"normalised_columns", "all scores of a head; softmax over the queries", "n_q n_kv",
               workspace_bytes, run})
