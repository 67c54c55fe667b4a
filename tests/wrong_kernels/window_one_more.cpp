// cause: window_off_by_one
// says: off by one
// The window's first key is p - window, one too many.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    int first() override {
        const int first = position() - a->window; // wrong: + 1
        return a->window ? std::max(0, first) : 0;
    }
};

GPT149_KERNEL({"window_one_more", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_WINDOW})
