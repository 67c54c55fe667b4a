// cause: tail_keys_in_sum
// A partial key tile at the end (n_kv % bc keys) is filled up with keys and values of zeros: their
// score is 0, so each adds exp(0 - m) to l. Right when bc divides n_kv, or n_kv < bc.
#include "gpt149.h"

#include <algorithm>
#include <cmath>

static int tile_keys(const gpt149_args *a) {
    return std::min(a->bc > 0 ? a->bc : 64, a->n_kv);
}

static int64_t workspace_bytes(const gpt149_args *a) {
    return tile_keys(a) * (int64_t)sizeof(float);
}

// One query walks over the keys in tiles of bc; its output so far is kept in out.
static void attend_row(const gpt149_args *a, int b, int h, int i, float *s) {
    const int d = a->head_dim, n = gpt149_visible(a, i), bc = tile_keys(a);
    const float *q = gpt149_q(a, b, h, i);
    float *out = gpt149_out(a, b, h, i), m = -INFINITY, l = 0;
    std::fill_n(out, d, 0.0f);
    for (int64_t j0 = 0; j0 < n; j0 += bc) {
        const int cols = std::min<int64_t>(bc, n - j0);
        float m_new = m;
        for (int j = 0; j < cols; j++) {
            const float *k = gpt149_k(a, b, h, j0 + j);
            float dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int x = 0; x < d; x++)
                dot += q[x] * k[x];
            s[j] = a->scale * dot;
            m_new = std::fmax(m_new, s[j]);
        }
        for (int j = a->n_kv - j0; j < bc; j++) { // padding
            s[j] = 0;
            m_new = std::fmax(m_new, s[j]);
        }
        const float shrink = std::exp(m - m_new); // 0 for the first tile, where m is -inf
        l *= shrink;
        for (int x = 0; x < d; x++)
            out[x] *= shrink;
        for (int j = 0; j < cols; j++) {
            const float p = std::exp(s[j] - m_new), *v = gpt149_v(a, b, h, j0 + j);
            l += p;
            for (int x = 0; x < d; x++)
                out[x] += p * v[x];
        }
        for (int j = a->n_kv - j0; j < bc; j++)
            l += std::exp(s[j] - m_new); // wrong: padding should be masked with -inf
        m = m_new;
    }
    for (int x = 0; x < d; x++)
        out[x] /= l;
}

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++)
                attend_row(a, b, h, i, (float *)a->workspace);
    return nullptr;
}

GPT149_KERNEL({"tail_keys_padded", "bc keys a tile; the last one padded with zeros", "bc",
               workspace_bytes, run})
