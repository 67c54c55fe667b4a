// cause: l_not_reset
// l is set to 0 once a query, not once a query and head: the sums of the heads before stay in it.
// Right for one head, and for head 0.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void begin() override { // without l = 0
        m = -INFINITY;
        std::fill_n(out(), a->head_dim, 0.0f);
    }
    void call() override {
        for (b = 0; b < a->batch; b++)
            for (i = 0; i < a->n_q; i++) {
                l = 0; // wrong: belongs inside the loop over heads
                for (h = 0; h < a->n_head; h++)
                    row();
            }
    }
};

GPT149_KERNEL({"l_not_reset", "a row of scores; l carried from head to head", "n_kv", one_row,
               run<Wrong>})
