// cause: k_address
// says: head 1|another head
// K's heads are taken to lie n_head rows apart, as where tokens come before heads.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *k(int j) override {
        const int64_t head = (int64_t)a->n_kv_head * a->head_dim; // wrong: k_stride[1]
        return (const float *)a->k + b * a->k_stride[0] + group() * head + j * a->k_stride[2];
    }
};

GPT149_KERNEL({"k_head_by_head_dim", "a row of scores; offsets by hand", "n_kv", one_row,
               run<Wrong>})
