// cause: head_dim_cut
// says: 128-135
// The scores are of the first 128 dims: the query is kept in an array of 128.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        return a->scale * dot(q(), k(j), std::min(a->head_dim, 128)); // wrong: all dims
    }
};

GPT149_KERNEL({"head_dim_max_128", "a row of scores; 128 dims", "n_kv", one_row, run<Wrong>})
