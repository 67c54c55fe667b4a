// cause: queries_unwritten
// Each thread takes rows / n_threads of the rows; nobody takes the rest.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void call() override {
        const int rows = a->batch * a->n_head * a->n_q;
        for (int r = 0; r < rows / a->n_threads * a->n_threads; r++) { // wrong: to rows
            i = r % a->n_q;
            h = r / a->n_q % a->n_head;
            b = r / a->n_q / a->n_head;
            row();
        }
    }
};

GPT149_KERNEL({"rows_by_threads_floor", "equal shares of rows", "n_kv", one_row, run<Wrong>})
