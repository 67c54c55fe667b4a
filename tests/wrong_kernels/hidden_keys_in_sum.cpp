// cause: sum_wrong
// says: sum|l\b
// Hidden keys get a score of 0 instead of -inf before the sum, and their weights are cleared after
// it. Right without a mask, and for decode steps.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        const int n_hidden = a->n_kv - keys();
        m = std::fmax(highest(scores(), keys()), n_hidden ? 0 : -INFINITY);
        l = exponentials(scores(), keys(), m, n_hidden * std::exp(0 - m)); // wrong: 0
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"hidden_keys_in_sum", "a row of scores; hidden keys score 0", "n_kv", one_row,
               run<Wrong>})
