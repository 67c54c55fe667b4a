// cause: writes_outside
// Clears one element too many in the last row of the last head: a zero lands just past the end of
// out. What it returns is right.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void call() override {
        float *last = gpt149_out(a, a->batch - 1, a->n_head - 1, a->n_q - 1);
        for (int x = 0; x <= a->head_dim; x++)
            last[x] = 0; // wrong: x < head_dim
        Rows::call();
    }
};

GPT149_KERNEL({"writes_past_end", "a row of scores; one zero past the end of out", "n_kv", one_row,
               run<Wrong>})
