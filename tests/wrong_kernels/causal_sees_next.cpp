// cause: causal_off_by_one
// The causal mask is off by one: query i also sees the key behind its own, if there is one. Right
// without a mask, and for a decode step.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int keys() override {
        return std::min(gpt149_visible(a, i) + 1, a->n_kv); // wrong: without the + 1
    }
};

GPT149_KERNEL({"causal_sees_next", "a row of scores; one key of the future in sight", "n_kv",
               one_row, run<Wrong>})
