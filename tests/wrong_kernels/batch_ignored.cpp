// cause: batch_ignored
// Always reads batch 0 of q, k and v. Right for a batch of one.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *q() override { return gpt149_q(a, 0, h, i); }      // wrong: b
    const float *k(int j) override { return gpt149_k(a, 0, h, j); } // wrong: b
    const float *v(int j) override { return gpt149_v(a, 0, h, j); } // wrong: b
};

GPT149_KERNEL({"batch_ignored", "a row of scores; batch 0 for every batch", "n_kv", one_row,
               run<Wrong>})
