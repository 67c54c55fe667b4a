// cause: kv_dtype_ignored
// Claims bfloat16 keys and values, and takes them for float32.
#include "../kernel_parts/rows.h"

GPT149_KERNEL({"kv_dtype_ignored", "a row of scores; kv_dtype ignored", "n_kv", one_row, run<Rows>,
               GPT149_KV_BFLOAT16})
