// cause: nan_from_masked_tile
// Walks over the key tiles backwards, tiles masked for the whole row included: m is still -inf
// there, and -inf - -inf is NaN. Right without a mask, and for rows that see into the last tile.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    float score(int j) override { return j < keys() ? Tiles::score(j) : -INFINITY; }
    void tiles() override {
        for (int j0 = (a->n_kv - 1) / bc() * bc(); j0 >= 0; j0 -= bc())
            tile(j0, std::min(bc(), a->n_kv - j0)); // wrong: masked tiles must be left out
    }
};

GPT149_KERNEL({"nan_on_masked", "bc keys a tile, last tile first", "bc", one_tile, run<Wrong>})
