// cause: kv_dtype_wrong
// says: rows of keys in bfloat16 are found twice as far
// Offsets into K are added to a pointer to float, whatever its type is.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    const float *k(int j) override { // wrong: elements of bfloat16 have 2 bytes
        return load(a->kv_dtype, row_of(a->k, a->k_stride, j), a->head_dim, wide_k);
    }
};

GPT149_KERNEL({"keys_as_floats_apart", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_KV_BFLOAT16})
