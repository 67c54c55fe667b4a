// cause: group_mapping
// Deals the query heads out to the key heads in turn: head h reads h % n_kv_head. Right when
// n_kv_head is 1 or n_head.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int group() override { return h % a->n_kv_head; } // wrong: h / (n_head / n_kv_head)
};

GPT149_KERNEL({"group_interleaved", "a row of scores; key heads interleaved", "n_kv", one_row,
               run<Wrong>})
