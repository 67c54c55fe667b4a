// cause: keys_lost
// says: below
// Keys whose score is more than 4 below the maximum so far are skipped.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    void add(Split &split, int j) override {
        if (score(j) > split.m - 4) Splits::add(split, j); // wrong: in any case
    }
};

GPT149_KERNEL({"scores_far_below_skipped", "four splits; low scores skipped", "head_dim",
               accumulators, run<Wrong>})
