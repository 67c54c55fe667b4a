// quick_tiles.h: attention in tiles and vectors, from parts that are quick enough to be no cause of
// slowness. A slow kernel of the tests overrides the part that it is slow in. float32 only.
//
// A tile is BR queries of one head; it goes over its keys BC at a time. Lanes are keys for the
// scores (K is transposed), and head_dim for the values.
#pragma once

#include "gpt149.h"

#include <algorithm>
#include <cmath>
#include <omp.h>

constexpr int BR = 64, BC = 64;

inline float quick_exp(float x) {
    float t = std::max(x * 1.44269504f, -126.0f);
    const float n = (t + 12582912.0f) - 12582912.0f;
    t -= n;
    float p = 1.3333558e-3f;
    for (float c : {9.6181291e-3f, 5.5504109e-2f, 2.4022651e-1f, 6.9314718e-1f, 1.0f})
        p = p * t + c;
    return p * __builtin_bit_cast(float, ((int32_t)n + 127) << 23);
}

// y[x] += by * from[x] for n numbers.
inline void add_scaled(float *y, float by, const float *from, int n) {
#pragma omp simd
    for (int x = 0; x < n; x++)
        y[x] += by * from[x];
}

// The highest of n scores and `top`. Of eight vectors' lanes, for else each would wait for the
// last.
inline float quick_top(const float *row, int n, float top) {
    constexpr int LANES = 64;
    float most[LANES];
    std::fill_n(most, LANES, top);
    int j = 0;
    for (; j + LANES <= n; j += LANES)
        for (int x = 0; x < LANES; x++)
            most[x] = row[j + x] > most[x] ? row[j + x] : most[x];
    for (int x = 0; x < n - j; x++)
        most[x] = row[j + x] > most[x] ? row[j + x] : most[x];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int x = 0; x < half; x++)
            most[x] = most[x + half] > most[x] ? most[x + half] : most[x];
    return most[0];
}

// n scores become exp(score - top); returns their sum.
inline float quick_weights(float *row, int n, float top) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int j = 0; j < n; j++) {
        row[j] = quick_exp(row[j] - top);
        sum += row[j];
    }
    return sum;
}

struct Tiles {
    const gpt149_args *a;
    int b, h, i0, rows;            // the tile: its head, its first query and how many
    float *kt, *q, *s, *o, *m, *l; // (d, BC), (BR, d), (BR, BC), (BR, d), (BR), (BR)

    static int64_t floats(const gpt149_args *a) {
        return (BC + 2 * BR) * (int64_t)a->head_dim + BR * (BC + 2) + 64;
    }
    int end() const { return gpt149_visible(a, i0 + rows - 1); } // of the keys that it goes over
    int sees(int r, int j0, int n) const {
        return std::clamp(gpt149_visible(a, i0 + r) - j0, 0, n);
    }

    // K^T of the n keys from j0 on.
    void pack(int j0, int n) {
        for (int j = 0; j < n; j++) {
            const float *k = gpt149_k(a, b, h, j0 + j);
            for (int x = 0; x < a->head_dim; x++)
                kt[x * BC + j] = k[x];
        }
    }
    // Scores of row r; q is scaled.
    void scores(int r, int j0, int n) {
        (void)j0;
        const int d = a->head_dim;
        const float *row = q + r * d;
        float *to = s + r * BC;
        std::fill_n(to, BC, 0.0f);
        for (int x = 0; x < d; x++)
            add_scaled(to, row[x], kt + x * BC, n);
    }
    // Scores become weights; sum, maximum and output are rescaled.
    void softmax(int r, int n) {
        float *row = s + r * BC;
        const float top = quick_top(row, n, m[r]), sum = quick_weights(row, n, top);
        const float shrink = quick_exp(m[r] - top);
        m[r] = top;
        l[r] = l[r] * shrink + sum;
        for (int x = 0; x < a->head_dim; x++)
            o[r * a->head_dim + x] *= shrink;
    }
    void values(int r, int j0, int n) {
        const float *v = gpt149_v(a, b, h, j0);
        for (int j = 0; j < n; j++)
            add_scaled(o + r * a->head_dim, s[r * BC + j], v + j * a->v_stride[2], a->head_dim);
    }
};

// A tile by the parts of T, which is derived from Tiles.
template <class T> void attend(const gpt149_args *a, int b, int h, int i0, int rows, float *space) {
    const int d = a->head_dim;
    T t;
    t.a = a, t.b = b, t.h = h, t.i0 = i0, t.rows = rows;
    t.kt = space, t.q = t.kt + d * BC, t.s = t.q + BR * d, t.o = t.s + BR * BC, t.m = t.o + BR * d,
    t.l = t.m + BR;
    for (int r = 0; r < rows; r++) {
        for (int x = 0; x < d; x++)
            t.q[r * d + x] = a->scale * gpt149_q(a, b, h, i0 + r)[x];
        t.m[r] = -1e30f, t.l[r] = 0;
    }
    std::fill_n(t.o, rows * d, 0.0f);
    for (int j0 = 0; j0 < t.end(); j0 += BC) {
        const int n = std::min(BC, t.end() - j0);
        t.pack(j0, n);
        for (int r = 0; r < rows; r++) {
            t.scores(r, j0, n);
            const int sees = t.sees(r, j0, n);
            if (!sees) continue;
            t.softmax(r, sees);
            t.values(r, j0, sees);
        }
    }
    for (int r = 0; r < rows; r++) {
        const float by = 1 / t.l[r];
        for (int x = 0; x < d; x++)
            gpt149_out(a, b, h, i0 + r)[x] = t.o[r * d + x] * by;
    }
}

template <class T> int64_t tiles_bytes(const gpt149_args *a) {
    return 4 * a->n_threads * T::floats(a);
}

// All tiles of `rows` queries, the longest first, shared out to the threads.
template <class T, int ROWS = BR> const char *run_tiles(const gpt149_args *a) {
    const int n = (a->n_q + ROWS - 1) / ROWS, units = a->batch * a->n_head;
#pragma omp parallel for schedule(dynamic) num_threads(a->n_threads)
    for (int i = 0; i < n * units; i++) {
        const int u = i % units, i0 = (n - 1 - i / units) * ROWS;
        attend<T>(a, u / a->n_head, u % a->n_head, i0, std::min(ROWS, a->n_q - i0),
                  (float *)a->workspace + omp_get_thread_num() * T::floats(a));
    }
    return nullptr;
}
