// cause: slopes_of_another_head
// says: another head
// The slope of a query head is looked up by its key head.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float slope() override {
        return a->alibi_slopes[h / (a->n_head / a->n_kv_head)]; // wrong: h
    }
};

GPT149_KERNEL({"slopes_of_key_head", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_ALIBI})
