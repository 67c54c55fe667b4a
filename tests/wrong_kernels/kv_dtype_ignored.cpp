// cause: kv_dtype_ignored
// Takes bfloat16 keys and values for float32, where it should decline or widen them.
#include "../kernel_parts/rows.h"

// wrong: run<Rows>, which declines what is not float32
GPT149_KERNEL({"kv_dtype_ignored", "a row of scores; kv_dtype ignored", "n_kv", one_row,
               run_any_dtype<Rows>})
