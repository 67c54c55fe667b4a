// cause: kv_head_ignored
// Always reads head 0 of k and v; q's head is right. Right when n_kv_head is 1.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int group() override { return 0; } // wrong: h / (n_head / n_kv_head)
};

GPT149_KERNEL({"kv_head_zero", "a row of scores; head 0 of K and V for every head", "n_kv", one_row,
               run<Wrong>})
