// cause: l_not_summed
// l is the sum of the last tile alone: = instead of +=. Right for rows of one tile.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    void tile(int j0, int n) override {
        score_keys(j0, n);
        raise(highest(scores(), n));
        l = exponentials(scores(), n, m, 0); // wrong: added to l
        add_values(j0, n);
    }
};

GPT149_KERNEL({"l_of_last_tile", "bc keys a tile; l of the last one", "bc", one_tile, run<Wrong>})
