// tiles.h: flash attention, in tiles of one query and bc keys. Only a tile of scores is in memory;
// out holds the sum of p V so far, and is divided by l at the end. See rows.h.
#pragma once

#include "rows.h"

inline int tile_keys(const gpt149_args *a) {
    return std::min(a->bc > 0 ? a->bc : 64, a->n_kv);
}
inline int64_t one_tile(const gpt149_args *a) {
    return tile_keys(a) * (int64_t)sizeof(float);
}

struct Tiles : Rows {
    int bc() { return tile_keys(a); }

    // The maximum is now that of the keys so far and of `top`: what was summed before shrinks.
    virtual void raise(float top) {
        const float m_new = std::fmax(m, top);
        rescale(std::exp(m - m_new)); // 0 for the first tile, where m is -inf
        m = m_new;
    }
    virtual void rescale(float shrink) {
        l *= shrink;
        float *o = out();
        for (int x = 0; x < a->head_dim; x++)
            o[x] *= shrink;
    }
    // Takes in the n <= bc() keys from j0 on.
    virtual void tile(int j0, int n) {
        score_keys(j0, n);
        raise(highest(scores(), n));
        l = exponentials(scores(), n, m, l);
        add_values(j0, n);
    }
    virtual void tiles() {
        for (int j0 = 0; j0 < keys(); j0 += bc())
            tile(j0, std::min(bc(), keys() - j0));
    }
    void row() override {
        begin();
        tiles();
        divide(out(), a->head_dim, l);
    }
};
