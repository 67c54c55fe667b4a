// flash: FlashAttention-2 (Dao 2023) on a CPU. A tile of br queries walks over the keys in tiles of
// bc and keeps, for each of its rows, the maximum m and the sum l of the exponentials so far and
// the output so far. When a tile raises m, what was summed before shrinks by exp(m_old - m_new).
// Nothing of the size of n_kv is stored. Query tiles are shared out over the threads.
//
// Bottleneck: the dot products end in a horizontal sum each, and exp is scalar.
#include "gpt149.h"

#include <algorithm>
#include <cmath>
#include <omp.h>

// A 32 x 64 tile of scores is 8 KB, 64 rows of 64 floats of K are 16 KB: both fit a first-level
// cache of 32 KB.
constexpr int DEFAULT_BR = 32, DEFAULT_BC = 64;

struct Tile {
    int64_t br, bc;
    // No larger than the problem, so that a huge --br costs no memory.
    explicit Tile(const gpt149_args *a)
        : br(std::min(a->br > 0 ? a->br : DEFAULT_BR, a->n_q)),
          bc(std::min(a->bc > 0 ? a->bc : DEFAULT_BC, a->n_kv)) {}
    // Floats a thread needs: scores (br, bc), accumulator (br, head_dim), m and l (br each).
    int64_t floats(int head_dim) const { return br * (bc + head_dim + 2); }
};

static int64_t workspace_bytes(const gpt149_args *a) {
    return a->n_threads * Tile(a).floats(a->head_dim) * (int64_t)sizeof(float);
}

// One row against the keys j0..j0+n: scores into s, then m, l and acc brought up to date.
static void update_row(const gpt149_args *a, int b, int h, int i, int j0, int n, float *s, float &m,
                       float &l, float *acc) {
    const int d = a->head_dim;
    const float *q = gpt149_q(a, b, h, i);
    float m_new = m;
    for (int j = 0; j < n; j++) {
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
        acc[x] *= shrink;
    for (int j = 0; j < n; j++) {
        const float p = std::exp(s[j] - m_new), *v = gpt149_v(a, b, h, j0 + j);
        l += p;
        for (int x = 0; x < d; x++)
            acc[x] += p * v[x];
    }
    m = m_new;
}

static void attend_tile(const gpt149_args *a, const Tile &tile, int b, int h, int i0,
                        float *scratch) {
    const int d = a->head_dim, rows = std::min<int64_t>(tile.br, a->n_q - i0);
    float *s = scratch;                 // (br, bc)
    float *acc = s + tile.br * tile.bc; // (br, head_dim)
    float *m = acc + tile.br * d;       // (br)
    float *l = m + tile.br;             // (br)
    std::fill_n(acc, rows * d, 0.0f);
    std::fill_n(m, rows, -INFINITY);
    std::fill_n(l, rows, 0.0f);

    const int last = gpt149_visible(a, i0 + rows - 1); // tiles behind it are masked for every row
    for (int64_t j0 = 0; j0 < last; j0 += tile.bc)
        for (int r = 0; r < rows; r++) {
            const int n = std::min<int64_t>(tile.bc, gpt149_visible(a, i0 + r) - j0);
            if (n > 0) update_row(a, b, h, i0 + r, j0, n, s + r * tile.bc, m[r], l[r], acc + r * d);
        }
    for (int r = 0; r < rows; r++) {
        float *out = gpt149_out(a, b, h, i0 + r);
        for (int x = 0; x < d; x++)
            out[x] = acc[r * d + x] / l[r];
    }
}

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    const Tile tile(a);
    const int n_tiles = (a->n_q + tile.br - 1) / tile.br;
    float *workspace = (float *)a->workspace; // (n_threads, floats)

    // Later tiles see more keys, so they are dealt out as threads come free.
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(a->n_threads)
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int t = 0; t < n_tiles; t++)
                attend_tile(a, tile, b, h, t * tile.br,
                            workspace + omp_get_thread_num() * tile.floats(a->head_dim));
    return nullptr;
}

GPT149_KERNEL({"flash", "br x bc tiles with a running maximum and sum: no row of scores at all",
               "n_threads br (bc + head_dim)", workspace_bytes, run})
