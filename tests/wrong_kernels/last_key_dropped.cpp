// cause: last_key_dropped
// Never sees the last of the n_kv keys, unless it is the only one. Right for the rows of a causal
// call that do not see it.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int keys() override {
        return std::min(gpt149_visible(a, i), std::max(a->n_kv - 1, 1)); // wrong: a->n_kv
    }
};

GPT149_KERNEL({"last_key_dropped", "a row of scores; up to the last key but one", "n_kv", one_row,
               run<Wrong>})
