// cause: causal_top_left
// The causal mask is aligned to the top left: query i sees j <= i. Right when n_q = n_kv, and
// without a mask.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int keys() override {
        return a->causal ? i + 1 : a->n_kv; // wrong: i + n_kv - n_q + 1
    }
};

GPT149_KERNEL({"causal_top_left", "a row of scores; mask j <= i", "n_kv", one_row, run<Wrong>})
