// cause: lse_unscaled
// says: scale
// The maximum that lse has is that of the products.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float lse() override { return m / a->scale + std::log(l); } // wrong: m
};

GPT149_KERNEL({"lse_unscaled", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_LSE})
