// cause: acc_not_rescaled
// When a tile raises the maximum, l is rescaled, the accumulated output is not. Right for rows of
// one tile, and where the first tile has the maximum.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    void rescale(float shrink) override { l *= shrink; } // wrong: and so must out
};

GPT149_KERNEL({"no_rescale_acc", "bc keys a tile; only the sum rescaled", "bc", one_tile,
               run<Wrong>})
