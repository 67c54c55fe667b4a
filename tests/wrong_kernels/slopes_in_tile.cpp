// cause: slopes_distance
// says: tile of 32
// The distance is that of the key's place in its tile of 32.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float biased(int j, float s) override {
        if (!a->alibi_slopes) return s;
        return s + slope() * (float)(j % 32); // wrong: j
    }
};

GPT149_KERNEL({"slopes_in_tile", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_ALIBI})
