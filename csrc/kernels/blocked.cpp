// blocked: naive with its two matrix products cut into tiles. A tile of bc keys (then of values)
// stays in the first-level cache while br queries pass over it, so K and V come from memory n_q/br
// times instead of n_q times. The softmax between the products is still a pass of its own. Serial.
//
// Bottleneck: the n_q x n_kv scores still travel to memory and back.
#include "gpt149.h"

#include <algorithm>
#include <cmath>

// 64 rows of 64 floats of K are 16 KB: half of a 32 KB first-level cache, the rest is for Q and S.
constexpr int DEFAULT_TILE = 64;

static int64_t workspace_bytes(const gpt149_args *a) {
    return (int64_t)a->n_q * a->n_kv * sizeof(float);
}

// Rows i0..i1 of S = scale Q K^T, columns j0..j1.
static void score_tile(const gpt149_args *a, int b, int h, int i0, int i1, int j0, int j1,
                       float *scores) {
    for (int i = i0; i < i1; i++) {
        const float *q = gpt149_q(a, b, h, i);
        for (int j = std::max(j0, gpt149_first(a, b, i)); j < std::min(j1, gpt149_visible(a, i));
             j++) {
            const float *k = gpt149_k(a, b, h, j);
            float dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int x = 0; x < a->head_dim; x++)
                dot += q[x] * k[x];
            scores[(int64_t)i * a->n_kv + j] = gpt149_score(a, h, i, j, dot);
        }
    }
}

static void softmax_row(float *s, int first, int end) {
    float m = -INFINITY, l = 0;
    for (int j = first; j < end; j++)
        m = std::fmax(m, s[j]);
    for (int j = first; j < end; j++)
        l += s[j] = std::exp(s[j] - m);
    for (int j = first; j < end; j++)
        s[j] /= l;
}

// Rows i0..i1 of O += P V, over the keys j0..j1.
static void value_tile(const gpt149_args *a, int b, int h, int i0, int i1, int j0, int j1,
                       const float *scores) {
    for (int i = i0; i < i1; i++) {
        float *out = gpt149_out(a, b, h, i);
        for (int j = std::max(j0, gpt149_first(a, b, i)); j < std::min(j1, gpt149_visible(a, i));
             j++) {
            const float p = scores[(int64_t)i * a->n_kv + j], *v = gpt149_v(a, b, h, j);
            for (int x = 0; x < a->head_dim; x++)
                out[x] += p * v[x];
        }
    }
}

static const char *run(const gpt149_args *a) {
    const int n_q = a->n_q, n_kv = a->n_kv;
    const int br = a->br > 0 ? a->br : DEFAULT_TILE, bc = a->bc > 0 ? a->bc : DEFAULT_TILE;
    float *scores = (float *)a->workspace; // (n_q, n_kv)

    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++) {
            for (int64_t i = 0; i < n_q; i += br)
                for (int64_t j = 0; j < n_kv; j += bc)
                    score_tile(a, b, h, i, std::min<int64_t>(i + br, n_q), j,
                               std::min<int64_t>(j + bc, n_kv), scores);
            for (int i = 0; i < n_q; i++) {
                softmax_row(scores + (int64_t)i * n_kv, gpt149_first(a, b, i),
                            gpt149_visible(a, i));
                std::fill_n(gpt149_out(a, b, h, i), a->head_dim, 0.0f);
            }
            for (int64_t i = 0; i < n_q; i += br)
                for (int64_t j = 0; j < n_kv; j += bc)
                    value_tile(a, b, h, i, std::min<int64_t>(i + br, n_q), j,
                               std::min<int64_t>(j + bc, n_kv), scores);
        }
    return nullptr;
}

GPT149_KERNEL({"blocked", "tiled matrix products around an unfused softmax; serial", "n_q n_kv",
               workspace_bytes, run,
               GPT149_WINDOW | GPT149_SOFTCAP | GPT149_ALIBI | GPT149_KV_BEGIN})
