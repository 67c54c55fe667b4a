// cause: head_ignored
// Always reads head 0 of q, k and v. Right for one head.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *q() override { return gpt149_q(a, b, 0, i); } // wrong: h
    int group() override { return 0; }                         // wrong: that of h
};

GPT149_KERNEL({"head_ignored", "a row of scores; head 0 for every head", "n_kv", one_row,
               run<Wrong>})
