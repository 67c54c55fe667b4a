// cause: scale_missing
// Q K^T is never multiplied by the scale. Right when the scale is 1.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override { return dot(q(), k(j), a->head_dim); } // wrong: a->scale * dot
};

GPT149_KERNEL({"scale_missing", "a row of scores; the scale left out", "n_kv", one_row, run<Wrong>})
