// cause: head_mixed
// The result of head h is written to head n_head - 1 - h. Right for one head.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float *out() override { return gpt149_out(a, b, a->n_head - 1 - h, i); } // wrong: h
};

GPT149_KERNEL({"heads_reversed", "a row of scores; heads written in reverse", "n_kv", one_row,
               run<Wrong>})
