// cause: lse_wrong
// says: not brought to the row's maximum
// The sums of parts of 32 keys, each below its own maximum, are added as they are.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float lse() override {
        float total = a->sinks ? std::exp(sink() - m) : 0;
        for (int j0 = first(); j0 < keys(); j0 += 32) {
            const int j1 = std::min(j0 + 32, keys());
            float highest = -INFINITY;
            for (int j = j0; j < j1; j++)
                highest = std::fmax(highest, score(j));
            for (int j = j0; j < j1; j++)
                total += std::exp(score(j) - highest); // wrong: - m
        }
        return m + std::log(total);
    }
};

GPT149_KERNEL({"lse_of_unscaled_parts", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_LSE})
