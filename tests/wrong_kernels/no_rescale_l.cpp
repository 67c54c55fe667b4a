// cause: l_not_rescaled
// When a tile raises the maximum, the accumulated output is rescaled, l is not. Right for rows of
// one tile, and where the first tile has the maximum.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    void rescale(float shrink) override {
        for (int x = 0; x < a->head_dim; x++)
            out()[x] *= shrink; // wrong: and so must l
    }
};

GPT149_KERNEL({"no_rescale_l", "bc keys a tile; only the output rescaled", "bc", one_tile,
               run<Wrong>})
