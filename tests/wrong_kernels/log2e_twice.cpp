// cause: scale_wrong
// says: log2|1\.442
// log2(e) is folded into the scale, and exp is the natural one.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    float score(int j) override {
        return a->scale * 1.44269504f * dot(q(), k(j), a->head_dim); // wrong: exp2 belongs to it
    }
};

GPT149_KERNEL({"log2e_twice", "bc keys a tile; log2(e) in the scale", "bc", one_tile, run<Wrong>})
