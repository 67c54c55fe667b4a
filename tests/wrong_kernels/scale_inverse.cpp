// cause: scale_wrong
// Divides the scores by the scale, as if it were sqrt(head_dim). Right when the scale is 1.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        return dot(q(), k(j), a->head_dim) / a->scale; // wrong: a->scale * dot
    }
};

GPT149_KERNEL({"scale_inverse", "a row of scores; divided by the scale", "n_kv", one_row,
               run<Wrong>})
