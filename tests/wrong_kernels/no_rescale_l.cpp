// cause: l_not_rescaled
// When a tile raises the maximum, the accumulated output is rescaled, l is not. Right for rows of
// one tile, and where the first tile has the maximum.
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
        const float shrink = std::exp(m - m_new); // 0 for the first tile, where m is -inf
        for (int x = 0; x < d; x++)
            out[x] *= shrink; // wrong: and so must l
        for (int j = 0; j < cols; j++) {
            const float p = std::exp(s[j] - m_new), *v = gpt149_v(a, b, h, j0 + j);
            l += p;
            for (int x = 0; x < d; x++)
                out[x] += p * v[x];
        }
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

GPT149_KERNEL({"no_rescale_l", "bc keys a tile; only the output rescaled", "bc", workspace_bytes,
               run})
