// cause: tail_keys_in_sum
// In a partial key tile at the end, the columns behind the last key still hold the exponentials of
// the tile before, and are added to l. Right when bc divides n_kv, or n_kv < bc.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    void tile(int j0, int n) override {
        Tiles::tile(j0, n);
        for (int j = a->n_kv - j0; j < bc(); j++)
            l += scores()[j]; // wrong: these columns are no keys
    }
};

GPT149_KERNEL({"tail_keys_stale", "bc keys a tile; stale columns of the last one in the sum", "bc",
               one_tile, run<Wrong>})
