// cause: br_bc_confused
// Tiles start br x bc apart (default 32 x 64), but are bc x br large: br < bc skips keys, br > bc
// skips rows and counts keys twice. Right when br = bc, or both >= n_q and n_kv.
#include "gpt149.h"

#include <algorithm>
#include <cmath>

static int tile_br(const gpt149_args *a) {
    return a->br > 0 ? a->br : 32;
}
static int tile_bc(const gpt149_args *a) {
    return a->bc > 0 ? a->bc : 64;
}

static int64_t workspace_bytes(const gpt149_args *a) {
    return std::min(std::max(tile_br(a), tile_bc(a)), a->n_kv) * (int64_t)sizeof(float);
}

// One query walks over the tiles of keys; its output so far is kept in out.
static void attend_row(const gpt149_args *a, int b, int h, int i, float *s) {
    const int d = a->head_dim, n = gpt149_visible(a, i);
    const float *q = gpt149_q(a, b, h, i);
    float *out = gpt149_out(a, b, h, i), m = -INFINITY, l = 0;
    std::fill_n(out, d, 0.0f);
    for (int64_t j0 = 0; j0 < n; j0 += tile_bc(a)) {
        const int cols = std::min<int64_t>(tile_br(a), n - j0); // wrong: tile_bc
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
        l *= shrink;
        for (int x = 0; x < d; x++)
            out[x] *= shrink;
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
            for (int64_t i0 = 0; i0 < a->n_q; i0 += tile_br(a)) {
                const int64_t end = std::min<int64_t>(i0 + tile_bc(a), a->n_q); // wrong: tile_br
                for (int i = i0; i < end; i++)
                    attend_row(a, b, h, i, (float *)a->workspace);
            }
    return nullptr;
}

GPT149_KERNEL({"br_bc_swapped", "br x bc tiles, br and bc confused within", "br + bc",
               workspace_bytes, run})
