// cause: k_address
// says: x\*head_dim \+ j
// Token and dim of K are exchanged in the flat index, the row stride is not: (j, x) is read at
// x * head_dim + j, for few tokens behind the tensor.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        const float *query = q(), *flat = k(0);
        float s = 0;
        for (int x = 0; x < a->head_dim; x++)
            s += query[x] * flat[x * a->head_dim + j]; // wrong: x + j * head_dim
        return a->scale * s;
    }
};

GPT149_KERNEL({"k_indices_exchanged", "a row of scores; K at x * head_dim + j", "n_kv", one_row,
               run<Wrong>})
