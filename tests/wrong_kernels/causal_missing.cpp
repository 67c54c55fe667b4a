// cause: causal_missing
// Ignores a->causal: every query sees every key. Right without a mask, and for a decode step.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int keys() override { return a->n_kv; } // wrong: gpt149_visible(a, i)
};

GPT149_KERNEL({"causal_missing", "a row of scores; no mask", "n_kv", one_row, run<Wrong>})
