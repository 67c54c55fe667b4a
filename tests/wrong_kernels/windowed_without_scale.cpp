// cause: scale_missing
// says: scale
// The path for windows forgets the scale; the plain one is right.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float score(int j) override {
        return a->window ? product(j) : Varied::score(j); // wrong: a->scale
    }
};

GPT149_KERNEL({"windowed_without_scale", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_WINDOW})
