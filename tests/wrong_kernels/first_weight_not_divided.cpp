// cause: mask_wrong
// says: not divided
// The loop that divides by the sum starts at 1.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = highest(scores(), keys());
        l = exponentials(scores(), keys(), m, 0);
        divide(scores() + 1, keys() - 1, l); // wrong: from 0 on
    }
};

GPT149_KERNEL({"first_weight_not_divided", "a row of scores; divided from the second on", "n_kv",
               one_row, run<Wrong>})
