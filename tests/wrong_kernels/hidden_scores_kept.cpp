// cause: mask_leaks
// says: raw scores
// The product with V runs over all keys, and hidden ones still have their scores.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void row() override {
        begin();
        score_keys(0, a->n_kv);
        softmax();
        add_values(0, a->n_kv); // wrong: keys(), or zeros behind them
    }
};

GPT149_KERNEL({"hidden_scores_kept", "a row of scores; all values", "n_kv", one_row, run<Wrong>})
