// cause: dims_of_v
// says: dim
// P V takes whole eights of dims: the others of out stay 0. Right where 8 divides head_dim.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void add_values(int j0, int n) override {
        for (int j = 0; j < n; j++)
            for (int x = 0; x < a->head_dim / 8 * 8; x++) // wrong: x < head_dim
                out()[x] += scores()[j] * v(j0 + j)[x];
    }
};

GPT149_KERNEL({"pv_tail_left_out", "a row of scores; whole eights of V", "n_kv", one_row,
               run<Wrong>})
