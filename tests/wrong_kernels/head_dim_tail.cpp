// cause: head_dim_cut
// The scores take whole fours of dimensions. Right where 4 divides head_dim.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        return a->scale * dot(q(), k(j), a->head_dim / 4 * 4); // wrong: a->head_dim
    }
};

GPT149_KERNEL({"head_dim_tail", "a row of scores; whole fours", "n_kv", one_row, run<Wrong>})
