// cause: position_bias
// says: position|index|linear
// ALiBi is left in: a score falls with the key's distance, in each head at a slope of its own.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        const float slope = std::exp2(-8.0f * (h + 1) / a->n_head);
        return Rows::score(j) + slope * (j - keys()); // wrong: without slope
    }
};

GPT149_KERNEL({"alibi", "a row of scores; a bias by distance", "n_kv", one_row, run<Wrong>})
