// cause: blocks_weighed
// says: split|block|boundar|part
// Every split is weighed with the maximum of the first, in l and in out.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    float for_l(const Split &split) override {
        const float first = splits[0].l > 0 ? splits[0].m : m; // wrong: split.m
        return split.l > 0 ? std::exp(first - m) : 0;
    }
};

GPT149_KERNEL({"merge_by_first_maximum", "four splits, weighed as the first", "head_dim",
               accumulators, run<Wrong>})
