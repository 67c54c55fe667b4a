// cause: aliased_scores
// Scores are stored at i * head_dim + j, as if S were a Q or K: a row that sees more than head_dim
// keys runs into the next. Right when n_kv <= head_dim, and for one query.
#include "gpt149.h"

#include <algorithm>
#include <cmath>

static int64_t workspace_bytes(const gpt149_args *a) {
    return (int64_t)a->n_q * a->n_kv * sizeof(float);
}

// A row of scores. No longer than n_kv, so that nothing outside the workspace is touched.
static float *score_row(const gpt149_args *a, int i) {
    const int64_t length = std::min(a->head_dim, a->n_kv); // wrong: n_kv
    return (float *)a->workspace + i * length;
}

static void attend_head(const gpt149_args *a, int b, int h) {
    const int n_q = a->n_q, d = a->head_dim;
    for (int i = 0; i < n_q; i++)
        for (int j = 0; j < gpt149_visible(a, i); j++) {
            const float *q = gpt149_q(a, b, h, i), *k = gpt149_k(a, b, h, j);
            float dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int x = 0; x < d; x++)
                dot += q[x] * k[x];
            score_row(a, i)[j] = a->scale * dot;
        }
    for (int i = 0; i < n_q; i++) {
        float *s = score_row(a, i), m = -INFINITY, l = 0;
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
            const float p = score_row(a, i)[j], *v = gpt149_v(a, b, h, j);
            for (int x = 0; x < d; x++)
                out[x] += p * v[x];
        }
    }
}

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            attend_head(a, b, h);
    return nullptr;
}

GPT149_KERNEL({"aliased_4d_index", "all scores of a head; rows head_dim apart", "n_q n_kv",
               workspace_bytes, run})
