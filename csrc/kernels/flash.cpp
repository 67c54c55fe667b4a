// flash: FlashAttention-2 (Dao 2023) on a CPU. A tile of br queries walks over the keys in tiles of
// bc and keeps, for each of its rows, the maximum m and the sum l of the exponentials so far and
// the output so far. When a tile raises m, what was summed before shrinks by exp(m_old - m_new).
// Nothing of the size of n_kv is stored. Query tiles are shared out over the threads. Of a window,
// only the tiles that it touches are visited.
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
    int d, d_v;
    bool half; // something is bfloat16, and a tile of it is copied
    // No larger than the problem, so that a huge --br costs no memory.
    explicit Tile(const gpt149_args *a)
        : br(std::min(a->br > 0 ? a->br : DEFAULT_BR, a->n_q)),
          bc(std::min(a->bc > 0 ? a->bc : DEFAULT_BC, a->n_kv)), d(a->head_dim),
          d_v(gpt149_head_dim_v(a)), half(a->dtype != GPT149_FLOAT32 || a->kv_dtype != a->dtype) {}
    // Floats a thread needs: scores (br, bc), accumulator (br, d_v), m and l (br each), copies.
    int64_t floats() const { return br * (bc + d_v + 2) + (half ? br * d + bc * (d + d_v) : 0); }
};

static int64_t workspace_bytes(const gpt149_args *a) {
    return a->n_threads * Tile(a).floats() * (int64_t)sizeof(float);
}

// Rows of a tensor as floats: row j is at first + j * stride.
struct Rows {
    const float *first;
    int64_t stride;
    const float *operator[](int j) const { return first + j * stride; }
};

// n rows of a tensor from `at` on, where they are, or copied to `copies` if they are bfloat16.
static Rows load(int32_t dtype, const float *at, int64_t stride, int n, int width, float *copies) {
    if (dtype == GPT149_FLOAT32) return {at, stride};
    for (int j = 0; j < n; j++)
        gpt149_load(dtype, (const float *)((const uint16_t *)at + j * stride), width,
                    copies + (int64_t)j * width);
    return {copies, width};
}

// One row against n keys, from j0 on: scores into s, then m, l and acc brought up to date.
static void update_row(const gpt149_args *a, int h, int i, const float *q, int j0, int n, Rows k,
                       Rows v, float *s, float &m, float &l, float *acc) {
    const int d = a->head_dim, d_v = gpt149_head_dim_v(a);
    float m_new = m;
    for (int j = 0; j < n; j++) {
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int x = 0; x < d; x++)
            dot += q[x] * k[j][x];
        s[j] = gpt149_score(a, h, i, j0 + j, dot);
        m_new = std::fmax(m_new, s[j]);
    }
    const float shrink = std::exp(m - m_new); // 0 for the first tile, where m is -inf
    l *= shrink;
    for (int x = 0; x < d_v; x++)
        acc[x] *= shrink;
    for (int j = 0; j < n; j++) {
        const float p = std::exp(s[j] - m_new);
        l += p;
        for (int x = 0; x < d_v; x++)
            acc[x] += p * v[j][x];
    }
    m = m_new;
}

static void attend_tile(const gpt149_args *a, const Tile &tile, int b, int h, int i0,
                        float *scratch) {
    const int d = tile.d, d_v = tile.d_v, rows = std::min<int64_t>(tile.br, a->n_q - i0);
    float *s = scratch;                 // (br, bc)
    float *acc = s + tile.br * tile.bc; // (br, d_v)
    float *m = acc + tile.br * d_v;     // (br)
    float *l = m + tile.br;             // (br)
    float *q_copy = l + tile.br;        // (br, d), (bc, d), (bc, d_v): where something is bfloat16
    float *k_copy = q_copy + tile.br * d, *v_copy = k_copy + tile.bc * d;
    std::fill_n(acc, rows * d_v, 0.0f);
    std::fill_n(m, rows, gpt149_sink(a, h));
    std::fill_n(l, rows, a->sinks ? 1.0f : 0.0f); // exp(sink - m)

    const Rows q = load(a->dtype, gpt149_q(a, b, h, i0), a->q_stride[2], rows, d, q_copy);
    // Tiles before and behind are masked for every row.
    const int begin = gpt149_first(a, b, i0), end = gpt149_visible(a, i0 + rows - 1);
    for (int64_t j0 = begin; j0 < end; j0 += tile.bc) {
        const int n = std::min<int64_t>(tile.bc, end - j0);
        const Rows k = load(a->kv_dtype, gpt149_k(a, b, h, j0), a->k_stride[2], n, d, k_copy);
        const Rows v = load(a->kv_dtype, gpt149_v(a, b, h, j0), a->v_stride[2], n, d_v, v_copy);
        for (int r = 0; r < rows; r++) {
            const int from = std::max<int64_t>(gpt149_first(a, b, i0 + r) - j0, 0);
            const int seen = std::min<int64_t>(n, gpt149_visible(a, i0 + r) - j0) - from;
            if (seen > 0)
                update_row(a, h, i0 + r, q[r], j0 + from, seen, {k[from], k.stride},
                           {v[from], v.stride}, s + r * tile.bc, m[r], l[r], acc + r * d_v);
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int x = 0; x < d_v; x++)
            acc[r * d_v + x] *= l[r] > 0 ? 1 / l[r] : 0; // 0: it sees nothing
        gpt149_store(a->dtype, gpt149_out(a, b, h, i0 + r), d_v, acc + r * d_v);
        if (a->lse) *gpt149_lse(a, b, h, i0 + r) = m[r] + std::log(l[r]);
    }
}

static const char *run(const gpt149_args *a) {
    const Tile tile(a);
    const int n_tiles = (a->n_q + tile.br - 1) / tile.br;
    float *workspace = (float *)a->workspace; // (n_threads, floats)

    // Later tiles see more keys, so they are dealt out as threads come free.
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(a->n_threads)
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int t = 0; t < n_tiles; t++)
                attend_tile(a, tile, b, h, t * tile.br,
                            workspace + omp_get_thread_num() * tile.floats());
    return nullptr;
}

GPT149_KERNEL({"flash", "br x bc tiles with a running maximum and sum: no row of scores at all",
               "n_threads br (bc + head_dim)", workspace_bytes, run,
               GPT149_WINDOW | GPT149_SOFTCAP | GPT149_ALIBI | GPT149_SINKS | GPT149_KV_BEGIN |
                   GPT149_HEAD_DIM_V | GPT149_LSE | GPT149_KV_BFLOAT16 | GPT149_Q_BFLOAT16})
