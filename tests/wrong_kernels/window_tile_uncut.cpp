// cause: window_tile_uncut
// says: whole tile
// The window begins where a tile of 16 keys does.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    int first() override {
        return Varied::first() / 16 * 16; // wrong: the keys before the window
    }
};

GPT149_KERNEL({"window_tile_uncut", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_WINDOW})
