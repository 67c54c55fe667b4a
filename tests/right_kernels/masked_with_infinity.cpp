// cause: none
// All n_kv scores of a row, the hidden ones -inf.
#include "../kernel_parts/rows.h"

struct Right : Rows {
    int keys() override { return a->n_kv; }
    float score(int j) override { return j < gpt149_visible(a, i) ? Rows::score(j) : -INFINITY; }
};

GPT149_KERNEL({"masked_with_infinity", "a row of scores; hidden ones -inf", "n_kv", one_row,
               run<Right>})
