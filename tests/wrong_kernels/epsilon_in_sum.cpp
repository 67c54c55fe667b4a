// cause: sum_wrong
// says: sum|l\b
// An epsilon of 0.01 in the denominator, "against a division by zero".
#include "../kernel_parts/packed.h"

struct Wrong : Packed {
    void softmax() override {
        m = highest(scores(), keys());
        l = exponentials(scores(), keys(), m, 0.01f); // wrong: 0
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"epsilon_in_sum", "K packed; an epsilon in l", "head_dim n_kv", row_and_panel,
               run<Wrong>})
