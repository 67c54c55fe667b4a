// cause: m_not_reset
// m is set once a batch, so a row subtracts the highest score of all rows and heads before it too.
// Right while logits are mild; else exp underflows, l is 0 and the row NaN.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void begin() override { // without m = -INFINITY
        l = 0;
        std::fill_n(out(), a->head_dim, 0.0f);
    }
    void call() override {
        for (b = 0; b < a->batch; b++) {
            m = -INFINITY; // wrong: belongs to the row
            for (h = 0; h < a->n_head; h++)
                head();
        }
    }
};

GPT149_KERNEL({"m_not_reset", "a row of scores; m carried from row to row", "n_kv", one_row,
               run<Wrong>})
