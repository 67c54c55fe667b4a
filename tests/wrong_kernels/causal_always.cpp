// cause: causal_always
// Masks even when the call is not causal. A query that sees nothing (n_q > n_kv) outputs zeros.
// Right when causal, and for a decode step.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int keys() override {
        return std::max(0, i + a->n_kv - a->n_q + 1); // wrong: only if a->causal
    }
};

GPT149_KERNEL({"causal_always", "a row of scores; always masked", "n_kv", one_row, run<Wrong>})
