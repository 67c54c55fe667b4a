// cause: none
// Keys in four splits that are merged; for fewer than four keys some are empty.
#include "../kernel_parts/splits.h"

GPT149_KERNEL({"splits", "four splits", "head_dim", accumulators, run<Splits>})
