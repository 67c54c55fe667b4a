// query_tiles.h: flash attention in tiles of br queries and bc keys. Scores, maxima and sums of a
// tile are in the workspace; out holds the sum of p V so far. See rows.h.
#pragma once

#include "rows.h"

inline int tile_br(const gpt149_args *a) {
    return std::min(a->br > 0 ? a->br : 16, a->n_q);
}
inline int tile_bc(const gpt149_args *a) {
    return std::min(a->bc > 0 ? a->bc : 32, a->n_kv);
}
inline int64_t one_query_tile(const gpt149_args *a) {
    return tile_br(a) * (tile_bc(a) + 2) * (int64_t)sizeof(float);
}

struct QueryTiles : Rows {
    int i0, i1; // the tile's queries
    int br() { return tile_br(a); }
    int bc() { return tile_bc(a); }
    float *scores() override { return (float *)a->workspace + (i - i0) * bc(); }
    float &top() { return ((float *)a->workspace)[br() * bc() + i - i0]; }
    float &total() { return ((float *)a->workspace)[br() * (bc() + 1) + i - i0]; }

    // Whether query i sees key j; and the end of the keys that any query of the tile sees.
    virtual bool sees(int j) { return j < keys(); }
    virtual int end_of_keys() { return gpt149_visible(a, i1 - 1); }

    virtual void begin_tile() {
        for (i = i0; i < i1; i++) {
            begin();
            top() = m;
            total() = l;
        }
    }
    virtual void score_tile(int j0, int n) {
        for (i = i0; i < i1; i++) {
            score_keys(j0, n);
            for (int j = 0; j < n; j++)
                if (!sees(j0 + j)) scores()[j] = -INFINITY;
        }
    }
    // Takes in the scores of the n keys from j0 on, for query i.
    virtual void take(int j0, int n) {
        m = std::fmax(top(), highest(scores(), n));
        if (m == -INFINITY) return; // nothing is visible yet
        const float shrink = std::exp(top() - m);
        for (int x = 0; x < a->head_dim; x++)
            out()[x] *= shrink;
        total() = exponentials(scores(), n, m, total() * shrink);
        top() = m;
        add_values(j0, n);
    }
    virtual void tile() {
        begin_tile();
        for (int j0 = 0; j0 < end_of_keys(); j0 += bc()) {
            const int n = std::min(bc(), end_of_keys() - j0);
            score_tile(j0, n);
            for (i = i0; i < i1; i++)
                take(j0, n);
        }
        for (i = i0; i < i1; i++)
            divide(out(), a->head_dim, total());
    }
    void head() override {
        for (i0 = 0; i0 < a->n_q; i0 = i1) {
            i1 = std::min(i0 + br(), a->n_q);
            tile();
        }
    }
};
