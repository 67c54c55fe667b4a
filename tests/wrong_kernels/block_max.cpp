// cause: block_max
// m becomes the maximum of the tile, not of all so far; what was summed before stays as it is when
// m falls. Right for rows of one tile, and where the maxima rise.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    void raise(float top) override {
        rescale(top > m ? std::exp(m - top) : 1.0f); // m may fall
        m = top;                                     // wrong: the higher of both
    }
};

GPT149_KERNEL({"block_max", "bc keys a tile; the maximum of the tile alone", "bc", one_tile,
               run<Wrong>})
