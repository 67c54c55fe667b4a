// cause: lse_base_2
// says: base 2
// The log-sum-exp in base 2, as kernels with exp2 have it.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float lse() override { return (m + std::log(l)) / std::log(2.0f); } // wrong: natural
};

GPT149_KERNEL({"lse_base_2", "a row of scores; a mistake in a variant", "n_kv", one_row, run<Wrong>,
               GPT149_LSE})
