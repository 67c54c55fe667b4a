// cause: crash
// Writes through a null pointer when there are more than 16 queries. Else right.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void call() override {
        float *volatile row = a->n_q > 16 ? nullptr : (float *)a->workspace;
        row[0] = 0; // wrong: null if n_q > 16
        Rows::call();
    }
};

GPT149_KERNEL({"segfault", "a row of scores; at most 16 queries", "n_kv", one_row, run<Wrong>})
