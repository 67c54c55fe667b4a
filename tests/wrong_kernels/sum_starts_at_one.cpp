// cause: sum_wrong
// says: \b1\b|extra
// l starts at 1, as if the highest score were counted by then; it is counted again.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    void merge() override {
        splits[0].l += 1; // wrong: it holds all of its keys
        Splits::merge();
    }
};

GPT149_KERNEL({"sum_starts_at_one", "four splits; l from 1", "head_dim", accumulators, run<Wrong>})
