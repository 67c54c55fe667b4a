// cause: scale_wrong
// Divides by head_dim where the scale of the call belongs (commonly 1 / sqrt(head_dim)).
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        return dot(q(), k(j), a->head_dim) / a->head_dim; // wrong: a->scale * dot
    }
};

GPT149_KERNEL({"scale_wrong", "a row of scores; scaled by 1 / head_dim", "n_kv", one_row,
               run<Wrong>})
