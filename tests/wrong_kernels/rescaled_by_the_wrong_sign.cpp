// cause: blocks_weighed
// says: tile|block|boundar
// out is divided by what it should be multiplied with when the maximum rises; l is right.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    void rescale(float shrink) override {
        l *= shrink;
        if (shrink > 0) divide(out(), a->head_dim, shrink); // wrong: times shrink
    }
};

GPT149_KERNEL({"rescaled_by_the_wrong_sign", "bc keys a tile; out grows", "bc", one_tile,
               run<Wrong>})
