// cause: kv_swapped
// K and V are exchanged.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *k(int j) override { return Rows::v(j); } // wrong: Rows::k
    const float *v(int j) override { return Rows::k(j); } // wrong: Rows::v
};

GPT149_KERNEL({"kv_swapped", "a row of scores; K and V exchanged", "n_kv", one_row, run<Wrong>})
