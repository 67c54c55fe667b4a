// cause: group_mapping
// Head h reads the keys of head h, and of the last key head when there are no more. Right when
// n_kv_head is 1 or n_head.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int group() override {
        return std::min(h, a->n_kv_head - 1); // wrong: h / (n_head / n_kv_head)
    }
};

GPT149_KERNEL({"group_first", "a row of scores; the last key head for the rest", "n_kv", one_row,
               run<Wrong>})
