// cause: slopes_sign
// says: sign
// slope (p - j): far keys score more.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float slope() override { return -a->alibi_slopes[h]; } // wrong: the sign
};

GPT149_KERNEL({"slopes_sign", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_ALIBI})
