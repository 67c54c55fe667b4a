// cause: window_of_tile
// says: tile of 16
// All queries of a tile of 16 have the window of the first.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    int first() override {
        const int back = i % 16; // wrong: 0
        const int first = position() - back - a->window + 1;
        return a->window ? std::max(0, first) : 0;
    }
};

GPT149_KERNEL({"window_of_first_query", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_WINDOW})
