// cause: slopes_ignored
// says: slopes.*ignored
// Claims ALiBi, and adds nothing to the scores.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float biased(int, float s) override { return s; } // wrong: the slope
};

GPT149_KERNEL({"claims_alibi", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_ALIBI})
