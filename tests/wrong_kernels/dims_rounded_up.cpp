// cause: head_dim_rounded_up
// says: whole vector of 8
// The scores take whole eights of dims, and with them what lies behind the row. Right where 8
// divides head_dim.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        return a->scale * dot(q(), k(j), (a->head_dim + 7) / 8 * 8); // wrong: head_dim
    }
};

GPT149_KERNEL({"dims_rounded_up", "a row of scores; whole vectors", "n_kv", one_row, run<Wrong>})
