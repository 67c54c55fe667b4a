// cause: lse_without_max
// says: maximum
// The log of the sum, whose exponentials have the maximum subtracted.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float lse() override { return std::log(l); } // wrong: m +
};

GPT149_KERNEL({"lse_without_maximum", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_LSE})
