// cause: window_top_left
// says: top left
// The window is counted from row i, not from its position: right where n_q = n_kv.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    int first() override {
        return a->window ? std::max(0, i - a->window + 1) : 0; // wrong: position()
    }
};

GPT149_KERNEL({"window_top_left", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_WINDOW})
