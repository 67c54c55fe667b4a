// blocks.h: attention in tiles of QUERIES and KEYS whose products hold ROWS (8, by itself) rows of
// 32 sums in registers: near enough to what the machine can do that memory shows. float32 only.
#pragma once

#include "quick_tiles.h"

typedef float Vec __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int WIDE = 32;

inline int64_t up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

// c (ROWS, WIDE) = a (ROWS, n) b (n, WIDE), besides what c holds if `add`; lda, ldb, ldc: of a row.
template <int ROWS, int WIDE>
void product(const float *a, int64_t lda, const float *b, int64_t ldb, int n, float *c, int64_t ldc,
             bool add) {
    constexpr int VECS = WIDE / 16;
    Vec sums[ROWS][VECS];
#pragma GCC unroll 32
    for (int r = 0; r < ROWS; r++)
        for (int w = 0; w < VECS; w++)
            sums[r][w] = add ? *(const Vec *)(c + r * ldc + 16 * w) : Vec{};
    for (int x = 0; x < n; x++)
#pragma GCC unroll 32
        for (int r = 0; r < ROWS; r++)
            for (int w = 0; w < VECS; w++)
                sums[r][w] += a[r * lda + x] * *(const Vec *)(b + x * ldb + 16 * w);
#pragma GCC unroll 32
    for (int r = 0; r < ROWS; r++)
        for (int w = 0; w < VECS; w++)
            *(Vec *)(c + r * ldc + 16 * w) = sums[r][w];
}

// A tile's memory: q (br, d), kt (bc / WIDE, d, WIDE), v (bc, dp), s (br, bc), o (br, dp), m, l
// (br).
struct Sizes {
    int64_t d, dp, br, bc;
    Sizes(const gpt149_args *a, int64_t most_br, int64_t most_bc, int rows)
        : d(a->head_dim), dp(up(d, 16)), br(up(std::min<int64_t>(most_br, a->n_q), rows)),
          bc(up(std::min<int64_t>(most_bc, a->n_kv), WIDE)) {}
    int64_t floats() const { return br * (d + bc + dp + 2) + bc * (d + dp) + 64; }
};

template <int ROWS>
void attend_block(const gpt149_args *a, const Sizes &z, int b, int h, int i0, float *q) {
    const int d = z.d, rows = std::min<int64_t>(z.br, a->n_q - i0), padded = up(rows, ROWS);
    float *kt = q + z.br * d, *v = kt + z.bc * d, *s = v + z.bc * z.dp, *o = s + z.br * z.bc,
          *m = o + z.br * z.dp, *l = m + z.br;
    for (int r = 0; r < padded; r++) {
        for (int x = 0; x < d; x++)
            q[r * d + x] = a->scale * gpt149_q(a, b, h, i0 + std::min(r, rows - 1))[x];
        m[r] = -1e30f, l[r] = 0;
    }
    std::fill_n(o, padded * z.dp, 0.0f);
    auto sees = [&](int r) { return gpt149_visible(a, i0 + std::min(r, rows - 1)); };
    const int end = sees(rows - 1);
    for (int j0 = 0; j0 < end; j0 += z.bc) {
        const int n = std::min<int64_t>(z.bc, end - j0), wide = up(n, WIDE);
        for (int j = 0; j < wide; j++) {
            const int from = j0 + std::min(j, n - 1);
            for (int x = 0; x < d; x++) {
                kt[j / WIDE * WIDE * d + x * WIDE + j % WIDE] = gpt149_k(a, b, h, from)[x];
                v[j * z.dp + x] = gpt149_v(a, b, h, from)[x];
            }
            std::fill(v + j * z.dp + d, v + (j + 1) * z.dp, 0.0f);
        }
        for (int r = 0; r < padded; r += ROWS)
            for (int j = 0; j < std::min<int>(wide, sees(r + ROWS - 1) - j0); j += WIDE)
                product<ROWS, WIDE>(q + r * d, d, kt + (int64_t)j * d, WIDE, d, s + r * z.bc + j,
                                    z.bc, false);
        for (int r = 0; r < padded; r++) {
            float *row = s + r * z.bc;
            const int mine = std::clamp(sees(r) - j0, 0, n);
            const float top = quick_top(row, mine, m[r]), shrink = quick_exp(m[r] - top);
            l[r] = l[r] * shrink + quick_weights(row, mine, top);
            m[r] = top;
            std::fill(row + mine, row + wide, 0.0f);
            for (int x = 0; x < z.dp; x++)
                o[r * z.dp + x] *= shrink;
        }
        for (int r = 0; r < padded; r += ROWS) {
            const int all = std::clamp(sees(r + ROWS - 1) - j0, 0, n);
            const float *p = s + r * z.bc;
            int x = 0;
            for (; x + WIDE <= z.dp; x += WIDE)
                product<ROWS, WIDE>(p, z.bc, v + x, z.dp, all, o + r * z.dp + x, z.dp, true);
            if (x < z.dp)
                product<ROWS, 16>(p, z.bc, v + x, z.dp, all, o + r * z.dp + x, z.dp, true);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int x = 0; x < d; x++)
            gpt149_out(a, b, h, i0 + r)[x] = o[r * z.dp + x] / l[r];
}

template <int64_t QUERIES, int64_t KEYS, int ROWS = 8> int64_t blocks_bytes(const gpt149_args *a) {
    return 4 * a->n_threads * Sizes(a, QUERIES, KEYS, ROWS).floats();
}

template <int64_t QUERIES, int64_t KEYS, int ROWS = 8>
const char *run_blocks(const gpt149_args *a) {
    const Sizes z(a, QUERIES, KEYS, ROWS);
    const int n = (a->n_q + z.br - 1) / z.br, units = a->batch * a->n_head;
#pragma omp parallel for schedule(dynamic) num_threads(a->n_threads)
    for (int i = 0; i < n * units; i++)
        attend_block<ROWS>(a, z, i % units / a->n_head, i % units % a->n_head,
                           (n - 1 - i / units) * z.br,
                           (float *)a->workspace + omp_get_thread_num() * z.floats());
    return nullptr;
}
