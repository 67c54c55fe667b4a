// 4. Flash attention: BR queries together walk over the keys, BC at a time, and carry a running
// maximum and sum. A row of a tile holds a number for each query, so no sum crosses a vector, and
// no row of scores is as long as the keys are many.
//
// Bottleneck: sums go to memory and come back at each addition; exp is a call for each score.
#include "gpt149.h"

#include <algorithm>
#include <cmath>
#include <omp.h>

constexpr int BR = 32, BC = 64; // queries and keys of a tile

typedef float Row[BR]; // a number for each query of a tile

// Rows that a thread needs: q, acc and the scores.
static int64_t rows(const gpt149_args *a) {
    return 2 * a->head_dim + BC;
}

static int64_t workspace_bytes(const gpt149_args *a) {
    return a->n_threads * rows(a) * sizeof(Row);
}

static void attend(const gpt149_args *a, int b, int h, int i0, Row *q) {
    const int d = a->head_dim;
    Row *acc = q + d, *s = acc + d, m, l;
    int visible[BR];
    for (int r = 0; r < BR; r++) {
        const int i = std::min(i0 + r, a->n_q - 1); // behind the last query, the last one again
        visible[r] = gpt149_visible(a, i);
        m[r] = -INFINITY, l[r] = 0;
        for (int x = 0; x < d; x++) {
            q[x][r] = a->scale * gpt149_q(a, b, h, i)[x];
            acc[x][r] = 0;
        }
    }

    const int end = visible[BR - 1];
    for (int j0 = 0; j0 < end; j0 += BC) {
        const int n = std::min(BC, end - j0);
        Row m_new, shrink;
        std::copy_n(m, BR, m_new);
        for (int j = 0; j < n; j++) {
            const float *k = gpt149_k(a, b, h, j0 + j);
            Row dot = {};
            for (int x = 0; x < d; x++)
                for (int r = 0; r < BR; r++)
                    dot[r] += k[x] * q[x][r];
            for (int r = 0; r < BR; r++) {
                s[j][r] = visible[r] > j0 + j ? dot[r] : -INFINITY;
                m_new[r] = std::max(m_new[r], s[j][r]);
            }
        }

        for (int r = 0; r < BR; r++) {
            shrink[r] = std::exp(m[r] - m_new[r]); // 0 at first, when m is -INFINITY
            m[r] = m_new[r];
            l[r] *= shrink[r];
        }
        for (int x = 0; x < d; x++)
            for (int r = 0; r < BR; r++)
                acc[x][r] *= shrink[r];

        for (int j = 0; j < n; j++) {
            const float *v = gpt149_v(a, b, h, j0 + j);
            for (int r = 0; r < BR; r++) {
                s[j][r] = std::exp(s[j][r] - m[r]);
                l[r] += s[j][r];
            }
            for (int x = 0; x < d; x++)
                for (int r = 0; r < BR; r++)
                    acc[x][r] += v[x] * s[j][r];
        }
    }

    for (int r = 0; r < std::min(BR, a->n_q - i0); r++)
        for (int x = 0; x < d; x++)
            gpt149_out(a, b, h, i0 + r)[x] = acc[x][r] / l[r];
}

static const char *run(const gpt149_args *a) {
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(a->n_threads)
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i += BR)
                attend(a, b, h, i, (Row *)a->workspace + omp_get_thread_num() * rows(a));
    return nullptr;
}

GPT149_KERNEL({"tiles", "BR x BC tiles with a running maximum and sum",
               "n_threads br (bc + head_dim)", workspace_bytes, run})
