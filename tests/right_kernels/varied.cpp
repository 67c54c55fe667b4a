// cause: none
// Every variant, and both types, one query at a time.
#include "../kernel_parts/varied.h"

GPT149_KERNEL({"varied", "a row of scores; every variant", "n_kv", one_row, run<Varied>,
               EVERYTHING})
