// cause: wrong_stride
// Finds the rows of V by the strides of K. Right when both have the same.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *v(int j) override {
        return row_of(a->v, a->k_stride, j); // wrong: a->v_stride
    }
};

GPT149_KERNEL({"k_stride_for_v", "a row of scores; V read with K's strides", "n_kv", one_row,
               run<Wrong>})
