// cause: slopes_distance
// says: \|j - p\|
// -slope |j - p|, as of causal models: wrong for keys behind the query's own.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float biased(int j, float s) override {
        if (!a->alibi_slopes) return s;
        return s - slope() * (float)std::abs(j - position()); // wrong: + slope (j - p)
    }
};

GPT149_KERNEL({"slopes_by_size", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_ALIBI})
