// cause: normalised_per_tile
// Each tile of keys is a softmax of its own, and the output is the mean of the tiles' outputs.
// Right for rows of one tile.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    void tile(int j0, int n) override {
        score_keys(j0, n);
        const float top = highest(scores(), n), total = exponentials(scores(), n, top, 0);
        divide(scores(), n, total); // wrong: the maximum and the sum belong to the row
        add_values(j0, n);
        l++; // counts the tiles: row() divides by it
    }
};

GPT149_KERNEL({"normalised_per_tile", "bc keys a tile; the mean of the tiles' softmaxes", "bc",
               one_tile, run<Wrong>})
