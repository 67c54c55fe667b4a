// 5. The tiles of 4, with sums that stay in registers until they are done, and exp of whole
// vectors.
//
// Bottleneck: the units that multiply and add; exp2 needs them too.
#include "gpt149.h"
#include "simd.h" // Vector: LANES floats, as many as a register holds

#include <algorithm>
#include <cmath>
#include <omp.h>

constexpr int VECTORS = 2, BR = VECTORS * LANES, BC = 64; // queries and keys of a tile
constexpr int SUMS = REGISTERS / 4;                       // SUMS x VECTORS: half of the registers
constexpr float LOG2E = 1.44269504f;                      // e^x = 2^(x log2 e)

typedef Vector Row[VECTORS]; // a number for each query of a tile

// Rows that a thread needs: q, acc and the scores.
static int64_t rows(const gpt149_args *a) {
    return 2 * a->head_dim + BC;
}

static int64_t workspace_bytes(const gpt149_args *a) {
    return a->n_threads * rows(a) * sizeof(Row);
}

// Both products: to[i] += sum over t < n of c(i, t) from[t], where c(i, t) is c[i * di + t * dt],
// for N rows of `to` at once.
template <int N>
static void add(Row *to, const float *c, int64_t di, int64_t dt, const Row *from, int n) {
    Row sums[N];
    for (int i = 0; i < N; i++)
        for (int w = 0; w < VECTORS; w++)
            sums[i][w] = to[i][w];
    for (int t = 0; t < n; t++)
        for (int i = 0; i < N; i++)
            for (int w = 0; w < VECTORS; w++)
                sums[i][w] += c[i * di + t * dt] * from[t][w];
    for (int i = 0; i < N; i++)
        for (int w = 0; w < VECTORS; w++)
            to[i][w] = sums[i][w];
}

static void add(int n_to, Row *to, const float *c, int64_t di, int64_t dt, const Row *from, int n) {
    int i = 0;
    for (; i + SUMS <= n_to; i += SUMS)
        add<SUMS>(to + i, c + i * di, di, dt, from, n);
    for (; i < n_to; i++)
        add<1>(to + i, c + i * di, di, dt, from, n);
}

static void attend(const gpt149_args *a, int b, int h, int i0, Row *q) {
    const int d = a->head_dim;
    Row *acc = q + d, *s = acc + d, m, l;
    Ints visible[VECTORS];
    for (int w = 0; w < VECTORS; w++)
        for (int r = 0; r < LANES; r++) {
            const int i = std::min(i0 + w * LANES + r, a->n_q - 1);
            for (int x = 0; x < d; x++)
                q[x][w][r] = LOG2E * a->scale * gpt149_q(a, b, h, i)[x];
            visible[w][r] = gpt149_visible(a, i);
        }
    for (int w = 0; w < VECTORS; w++) {
        m[w] = splat(-INFINITY), l[w] = Vector{};
        for (int x = 0; x < d; x++)
            acc[x][w] = Vector{};
    }

    const int end = gpt149_visible(a, std::min(i0 + BR, a->n_q) - 1);
    for (int j0 = 0; j0 < end; j0 += BC) {
        const int n = std::min(BC, end - j0);
        std::fill_n(s[0], n * VECTORS, Vector{});
        add(n, s, gpt149_k(a, b, h, j0), a->k_stride[2], 1, q, d);
        for (int w = 0; w < VECTORS; w++) {
            Vector m_new = m[w];
            for (int j = 0; j < n; j++) {
                s[j][w] = visible[w] > j0 + j ? s[j][w] : splat(-INFINITY);
                m_new = larger(m_new, s[j][w]);
            }
            const Vector shrink = exp2(m[w] - m_new);
            m[w] = m_new;
            l[w] *= shrink;
            for (int x = 0; x < d; x++)
                acc[x][w] *= shrink;
            for (int j = 0; j < n; j++) {
                s[j][w] = exp2(s[j][w] - m_new);
                l[w] += s[j][w];
            }
        }
        add(d, acc, gpt149_v(a, b, h, j0), 1, a->v_stride[2], s, n);
    }

    for (int r = 0; r < std::min(BR, a->n_q - i0); r++) {
        const int w = r / LANES, lane = r % LANES;
        for (int x = 0; x < d; x++)
            gpt149_out(a, b, h, i0 + r)[x] = acc[x][w][lane] / l[w][lane];
    }
}

static const char *run(const gpt149_args *a) {
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(a->n_threads)
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i += BR)
                attend(a, b, h, i, (Row *)a->workspace + omp_get_thread_num() * rows(a));
    return nullptr;
}

GPT149_KERNEL({"registers", "tiles, their sums in registers", "n_threads br (bc + head_dim)",
               workspace_bytes, run})
