// cause: kv_begin_off_by_one
// says: off by one
// The first key that is not padding is hidden.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    int first() override { return a->kv_begin ? a->kv_begin[b] + 1 : 0; } // wrong: + 1
};

GPT149_KERNEL({"kv_begin_one_more", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_KV_BEGIN})
