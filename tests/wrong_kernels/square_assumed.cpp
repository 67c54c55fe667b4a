// cause: square_assumed
// Takes n_kv for n_q: only the first n_q keys exist, and query i sees j <= i of them. Right for a
// prefill, n_q = n_kv; wrong for decode steps and chunks.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int keys() override {
        const int n_keys = std::min(a->n_q, a->n_kv); // wrong: a->n_kv
        return a->causal ? i + 1 : n_keys;
    }
};

GPT149_KERNEL({"square_assumed", "a row of scores; n_q keys", "n_kv", one_row, run<Wrong>})
