// cause: dtype_wrong
// says: queries in float32 are read as if they were bfloat16
// The rows of Q are found by dtype, and their elements are taken for those of kv_dtype.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    const float *q() override {
        return load(a->kv_dtype, gpt149_q(a, b, h, i), a->head_dim, wide_q); // wrong: dtype
    }
};

GPT149_KERNEL({"queries_by_type_of_keys", "a row of scores; a mistake in a variant", "n_kv",
               one_row, run<Wrong>, GPT149_KV_BFLOAT16})
