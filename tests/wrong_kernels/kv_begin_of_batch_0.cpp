// cause: kv_begin_of_another_batch
// says: batch
// Every batch is padded as batch 0 is.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    int first() override { return a->kv_begin ? a->kv_begin[0] : 0; } // wrong: [b]
};

GPT149_KERNEL({"kv_begin_of_batch_0", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_KV_BEGIN})
