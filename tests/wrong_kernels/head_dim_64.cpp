// cause: head_dim_fixed
// says: taken to be 64
// head_dim is taken to be 64 in the scores.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override { return a->scale * dot(q(), k(j), 64); } // wrong: a->head_dim
};

GPT149_KERNEL({"head_dim_64", "a row of scores; head_dim of 64", "n_kv", one_row, run<Wrong>})
