// cause: mask_wrong
// says: last|alone|one key|lone
// A tile of one key, the last, is taken for empty. Right unless n % bc is 1 for a row's n keys.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    void tile(int j0, int n) override {
        if (j0 == 0 || n > 1) Tiles::tile(j0, n); // wrong: in any case
    }
};

GPT149_KERNEL({"lone_key_in_tile", "bc keys a tile, two at least", "bc", one_tile, run<Wrong>})
