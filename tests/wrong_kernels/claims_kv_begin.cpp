// cause: kv_begin_ignored
// says: kv_begin.*ignored
// Claims left padding, and every key is seen.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    int first() override { return 0; } // wrong: a->kv_begin[b]
};

GPT149_KERNEL({"claims_kv_begin", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_KV_BEGIN})
