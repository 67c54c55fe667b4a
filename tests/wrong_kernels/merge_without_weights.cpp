// cause: blocks_weighed
// says: split|block|boundar|part
// The merge adds up the accumulators as they are, each relative to its own split's maximum; l is
// right. Right where only one split has keys.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    float for_out(const Split &split) override { return split.l > 0; } // wrong: for_l(split)
};

GPT149_KERNEL({"merge_without_weights", "four splits; accumulators as they are", "head_dim",
               accumulators, run<Wrong>})
