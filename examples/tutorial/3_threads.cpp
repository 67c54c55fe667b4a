// 3. Queries shared out over threads, each with a row of scores of its own.
//
// Bottleneck: a key that is read meets one query, and each dot product ends in a sum across a
// vector.
#include "gpt149.h"

#include <cmath>
#include <omp.h>

static int64_t workspace_bytes(const gpt149_args *a) {
    return (int64_t)a->n_threads * a->n_kv * sizeof(float);
}

static void attend(const gpt149_args *a, int b, int h, int i, float *s) {
    const int d = a->head_dim, n = gpt149_visible(a, i);
    const float *q = gpt149_q(a, b, h, i);
    float *out = gpt149_out(a, b, h, i);

    float m = -INFINITY;
    for (int j = 0; j < n; j++) {
        const float *k = gpt149_k(a, b, h, j);
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int x = 0; x < d; x++)
            dot += q[x] * k[x];
        s[j] = a->scale * dot;
        m = std::fmax(m, s[j]);
    }

    float l = 0;
    for (int j = 0; j < n; j++) {
        s[j] = std::exp(s[j] - m);
        l += s[j];
    }

    for (int x = 0; x < d; x++)
        out[x] = 0;
    for (int j = 0; j < n; j++) {
        const float *v = gpt149_v(a, b, h, j);
        const float p = s[j] / l;
        for (int x = 0; x < d; x++)
            out[x] += p * v[x];
    }
}

static const char *run(const gpt149_args *a) {
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(a->n_threads)
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++) {
                float *s = (float *)a->workspace + (int64_t)omp_get_thread_num() * a->n_kv;
                attend(a, b, h, i, s);
            }
    return nullptr;
}

GPT149_KERNEL({"threads", "a query at a time, queries over threads", "n_threads n_kv",
               workspace_bytes, run})
