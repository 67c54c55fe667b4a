// cause: window_off_by_one
// says: off by one
// The window is one key short.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    int first() override {
        const int first = position() - a->window + 2; // wrong: + 1
        return a->window ? std::max(0, first) : 0;
    }
};

GPT149_KERNEL({"window_one_fewer", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_WINDOW})
