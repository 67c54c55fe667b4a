// dot_tiles.h: quick_tiles.h, but lanes are head_dim for the scores as well: K is not transposed.
#pragma once

#include "quick_tiles.h"

struct DotTiles : Tiles {
    void pack(int, int) {}
    void scores(int r, int j0, int n) {
        const float *row = q + r * a->head_dim;
        for (int j = 0; j < n; j++) {
            const float *k = gpt149_k(a, b, h, j0 + j);
            float dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int x = 0; x < a->head_dim; x++)
                dot += row[x] * k[x];
            s[r * BC + j] = dot;
        }
    }
};
