// cause: tail_not_cut
// says: tile, of 16
// Tiles of 16 keys, the last of which is taken to be whole: rows behind K and V count.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int keys() override {
        const int n = gpt149_visible(a, i);
        return n < a->n_kv ? n : (n + 15) / 16 * 16; // wrong: n
    }
};

static int64_t whole_tiles(const gpt149_args *a) {
    return (a->n_kv + 15) / 16 * 16 * (int64_t)sizeof(float);
}

GPT149_KERNEL({"last_tile_not_cut", "a row of scores; in tiles of 16", "n_kv", whole_tiles,
               run<Wrong>})
