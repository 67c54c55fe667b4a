// cause: queries_unwritten
// The loop over the queries ends one early: the last row of out is never written.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void head() override {
        for (i = 0; i < a->n_q - 1; i++) // wrong: i < a->n_q
            row();
    }
};

GPT149_KERNEL({"last_row_unwritten", "a row of scores; up to the last query but one", "n_kv",
               one_row, run<Wrong>})
