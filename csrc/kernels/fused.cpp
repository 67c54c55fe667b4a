// fused: a query's whole computation, scores, softmax and weighted sum of V, happens before the
// next query starts, so one row of n_kv scores is all that has to be stored. Rows do not depend on
// each other: they are shared out over the threads, each with a row of its own.
//
// Bottleneck: every query reads all of K and V again; nothing is reused from one row to the next.
#include "gpt149.h"

#include <cmath>
#include <omp.h>

static int64_t workspace_bytes(const gpt149_args *a) {
    return (int64_t)a->n_threads * a->n_kv * sizeof(float);
}

static void attend_row(const gpt149_args *a, int b, int h, int i, float *s) {
    const int d = a->head_dim, first = gpt149_first(a, b, i), end = gpt149_visible(a, i);
    const float *q = gpt149_q(a, b, h, i);
    float m = -INFINITY, l = 0;
    for (int j = first; j < end; j++) {
        const float *k = gpt149_k(a, b, h, j);
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int x = 0; x < d; x++)
            dot += q[x] * k[x];
        s[j] = gpt149_score(a, h, i, j, dot);
        m = std::fmax(m, s[j]);
    }
    for (int j = first; j < end; j++)
        l += s[j] = std::exp(s[j] - m);

    float *out = gpt149_out(a, b, h, i);
    for (int x = 0; x < d; x++)
        out[x] = 0;
    for (int j = first; j < end; j++) {
        const float p = s[j] / l, *v = gpt149_v(a, b, h, j);
        for (int x = 0; x < d; x++)
            out[x] += p * v[x];
    }
}

static const char *run(const gpt149_args *a) {
    float *rows = (float *)a->workspace; // (n_threads, n_kv)

    // Causal rows grow longer towards the end, so they are dealt out as threads come free.
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(a->n_threads)
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++)
                attend_row(a, b, h, i, rows + (int64_t)omp_get_thread_num() * a->n_kv);
    return nullptr;
}

GPT149_KERNEL({"fused", "one row of scores a thread, parallel over batch x head x query",
               "n_threads n_kv", workspace_bytes, run,
               GPT149_WINDOW | GPT149_SOFTCAP | GPT149_ALIBI | GPT149_KV_BEGIN})
