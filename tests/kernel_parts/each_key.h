// each_key.h: quick_tiles.h, with something more to do at each key: Slow::key().
#pragma once

#include "quick_tiles.h"

template <class Slow> struct EachKey : Tiles {
    void values(int r, int j0, int n) {
        const float *v = gpt149_v(a, b, h, j0);
        for (int j = 0; j < n; j++) {
            add_scaled(o + r * a->head_dim, s[r * BC + j], v + j * a->v_stride[2], a->head_dim);
            static_cast<Slow *>(this)->key();
        }
    }
};
