// cause: rows_shifted
// The result of query i is written to row i + 1, that of the last to row 0. Right for one query.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float *out() override { return gpt149_out(a, b, h, (i + 1) % a->n_q); } // wrong: i
};

GPT149_KERNEL({"rows_shifted", "a row of scores; rows written one too low", "n_kv", one_row,
               run<Wrong>})
