// cause: no_fma
// Products are rounded before they are added, as the language would have it.
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif
#include "../kernel_parts/quick_tiles.h"

GPT149_KERNEL({"products_rounded", "slow", "n_threads", tiles_bytes<Tiles>, run_tiles<Tiles>})
