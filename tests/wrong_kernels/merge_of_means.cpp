// cause: blocks_weighed
// says: split|block|boundar|part
// The merge is the mean of what each split gives by itself.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    float for_l(const Split &split) override {
        return split.l > 0 ? 1 / split.l : 0; // wrong: exp(split.m - m)
    }
};

GPT149_KERNEL({"merge_of_means", "four splits and their mean", "head_dim", accumulators,
               run<Wrong>})
