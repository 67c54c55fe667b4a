// cause: mask_wrong
// says: head
// The mask is made for head 0 only: the others see every key. Right without a mask, and for one
// head.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int keys() override { return h == 0 ? gpt149_visible(a, i) : a->n_kv; } // wrong: in any head
};

GPT149_KERNEL({"mask_in_first_head", "a row of scores; head 0 is masked", "n_kv", one_row,
               run<Wrong>})
