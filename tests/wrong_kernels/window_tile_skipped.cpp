// cause: window_tile_skipped
// says: tile.*skipped
// Tiles of 32 keys are skipped unless all of their keys are in the window.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    int first() override {
        return (Varied::first() + 31) / 32 * 32; // wrong: rounded down, and the rest masked
    }
};

GPT149_KERNEL({"window_tile_skipped", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_WINDOW})
