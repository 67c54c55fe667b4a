// cause: q_owner
// says: uses the q of query|uses the queries
// The batch stride of K is taken for Q's.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *q() override {
        return (const float *)a->q + b * a->k_stride[0] + h * a->q_stride[1] + i * a->q_stride[2];
    } // wrong: q_stride[0]
};

GPT149_KERNEL({"q_batch_of_k", "a row of scores; offsets by hand", "n_kv", one_row, run<Wrong>})
