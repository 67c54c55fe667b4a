// cause: softcap_before_scale
// says: before the scale
// Products are capped, and then scaled.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float score(int j) override { return a->scale * capped(j, product(j)); } // wrong: the order
};

GPT149_KERNEL({"softcap_before_scale", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_SOFTCAP})
