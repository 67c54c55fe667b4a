// naive: the definition, written down. For one head at a time, all n_q x n_kv scores are stored,
// each row is made a softmax, and the rows weigh V. Serial.
//
// Bottleneck: the scores go to memory and come back twice; every key row is read n_q times.
#include "gpt149.h"

#include <algorithm>
#include <cmath>

// Scores (n_q, n_kv), and three rows: of q, of k or v, of out.
static int64_t workspace_bytes(const gpt149_args *a) {
    const int64_t row = std::max(a->head_dim, gpt149_head_dim_v(a));
    return ((int64_t)a->n_q * a->n_kv + 3 * row) * sizeof(float);
}

static const char *run(const gpt149_args *a) {
    const int n_q = a->n_q, n_kv = a->n_kv, d = a->head_dim, d_v = gpt149_head_dim_v(a);
    float *scores = (float *)a->workspace;
    float *q_row = scores + (int64_t)n_q * n_kv, *kv_row = q_row + std::max(d, d_v);
    float *out = kv_row + std::max(d, d_v);

    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++) {
            // S = scale Q K^T
            for (int i = 0; i < n_q; i++) {
                const float *q = gpt149_load(a->dtype, gpt149_q(a, b, h, i), d, q_row);
                for (int j = gpt149_first(a, b, i); j < gpt149_visible(a, i); j++) {
                    const float *k = gpt149_load(a->kv_dtype, gpt149_k(a, b, h, j), d, kv_row);
                    float dot = 0;
#pragma omp simd reduction(+ : dot)
                    for (int x = 0; x < d; x++)
                        dot += q[x] * k[x];
                    scores[(int64_t)i * n_kv + j] = gpt149_score(a, h, i, j, dot);
                }
            }
            // P = softmax(S), row by row; subtracting the maximum keeps exp from overflowing
            for (int i = 0; i < n_q; i++) {
                float *s = scores + (int64_t)i * n_kv;
                const int first = gpt149_first(a, b, i), end = gpt149_visible(a, i);
                const float sink = gpt149_sink(a, h);
                float m = sink, l = 0;
                for (int j = first; j < end; j++)
                    m = std::fmax(m, s[j]);
                for (int j = first; j < end; j++)
                    l += s[j] = std::exp(s[j] - m);
                if (sink > -INFINITY) l += std::exp(sink - m);
                for (int j = first; j < end; j++)
                    s[j] /= l;
                if (a->lse) *gpt149_lse(a, b, h, i) = m + std::log(l); // -INFINITY for no key
            }
            // O = P V
            for (int i = 0; i < n_q; i++) {
                std::fill_n(out, d_v, 0.0f);
                for (int j = gpt149_first(a, b, i); j < gpt149_visible(a, i); j++) {
                    const float p = scores[(int64_t)i * n_kv + j];
                    const float *v = gpt149_load(a->kv_dtype, gpt149_v(a, b, h, j), d_v, kv_row);
                    for (int x = 0; x < d_v; x++)
                        out[x] += p * v[x];
                }
                gpt149_store(a->dtype, gpt149_out(a, b, h, i), d_v, out);
            }
        }
    return nullptr;
}

GPT149_KERNEL({"naive", "the definition: all scores of a head in memory; serial", "n_q n_kv",
               workspace_bytes, run,
               GPT149_WINDOW | GPT149_SOFTCAP | GPT149_ALIBI | GPT149_SINKS | GPT149_KV_BEGIN |
                   GPT149_HEAD_DIM_V | GPT149_LSE | GPT149_KV_BFLOAT16 | GPT149_Q_BFLOAT16})
