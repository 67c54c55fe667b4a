// cause: k_owner
// says: h // 4
// The query heads of a key head are taken to be 4 at most: those behind read the next one's keys.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int group() override { // wrong: not cut to 4
        return std::min(h / std::min(a->n_head / a->n_kv_head, 4), a->n_kv_head - 1);
    }
};

GPT149_KERNEL({"group_max_4", "a row of scores; groups of 4", "n_kv", one_row, run<Wrong>})
