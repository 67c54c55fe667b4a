// cause: mask_wrong
// says: twice|2 times
// Splits end with the first key of the next, so that each key between two splits counts twice.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    int end(int s) override { return std::min(first(s + 1) + 1, keys()); } // wrong: first(s + 1)
};

GPT149_KERNEL({"split_ends_counted_twice", "four splits that overlap by a key", "head_dim",
               accumulators, run<Wrong>})
