// cause: max_starts_high
// says: hidden
// The maximum is taken over all n_kv scores, also over those that the mask hides. Right while no
// hidden score is 88 above the visible ones.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void row() override {
        begin();
        score_keys(0, a->n_kv);
        m = highest(scores(), a->n_kv); // wrong: keys()
        softmax();
        add_values(0, keys());
    }
};

GPT149_KERNEL({"maximum_of_hidden_keys", "a row of scores; the maximum of all", "n_kv", one_row,
               run<Wrong>})
