// cause: dims_twice
// says: \b0\b
// The sum over the dims starts with the product of dim 0, and so does the loop.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        const float first = q()[0] * k(j)[0];
        return a->scale * (first + dot(q(), k(j), a->head_dim)); // wrong: without first
    }
};

GPT149_KERNEL({"first_dim_twice", "a row of scores; dim 0 counts twice", "n_kv", one_row,
               run<Wrong>})
