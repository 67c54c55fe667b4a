// cause: acc_not_rescaled + l_not_rescaled
// When a tile raises the maximum, neither l nor the accumulated output is rescaled. Right for rows
// of one tile, and where the first tile has the maximum.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    void rescale(float) override {} // wrong: l and out must shrink
};

GPT149_KERNEL({"no_rescale", "bc keys a tile; nothing rescaled", "bc", one_tile, run<Wrong>})
