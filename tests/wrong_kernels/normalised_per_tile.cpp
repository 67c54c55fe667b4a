// cause: normalised_per_tile
// Each tile of keys is a softmax of its own, and the output is the mean of the tiles' outputs.
// Right for rows of one tile.
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
    float *out = gpt149_out(a, b, h, i);
    int n_tiles = 0;
    std::fill_n(out, d, 0.0f);
    for (int64_t j0 = 0; j0 < n; j0 += bc) {
        const int cols = std::min<int64_t>(bc, n - j0);
        float m = -INFINITY, l = 0; // wrong: they belong to the row
        for (int j = 0; j < cols; j++) {
            const float *k = gpt149_k(a, b, h, j0 + j);
            float dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int x = 0; x < d; x++)
                dot += q[x] * k[x];
            s[j] = a->scale * dot;
            m = std::fmax(m, s[j]);
        }
        for (int j = 0; j < cols; j++)
            l += s[j] = std::exp(s[j] - m);
        for (int j = 0; j < cols; j++) {
            const float p = s[j] / l, *v = gpt149_v(a, b, h, j0 + j);
            for (int x = 0; x < d; x++)
                out[x] += p * v[x];
        }
        n_tiles++;
    }
    for (int x = 0; x < d; x++)
        out[x] /= n_tiles;
}

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++)
                attend_row(a, b, h, i, (float *)a->workspace);
    return nullptr;
}

GPT149_KERNEL({"normalised_per_tile", "bc keys a tile; the mean of the tiles' softmaxes", "bc",
               workspace_bytes, run})
