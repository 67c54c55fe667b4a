// cause: head_dim_v_stride
// says: head_dim apart
// Rows of V are taken to follow each other at head_dim.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    const float *v(int j) override {
        if (!a->head_dim_v) return Varied::v(j);
        const int64_t row = ((int64_t)b * a->n_kv_head + group()) * a->n_kv + j;
        return (const float *)a->v + row * a->head_dim; // wrong: v_stride
    }
};

GPT149_KERNEL({"v_rows_head_dim_apart", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_HEAD_DIM_V})
