// cause: mask_wrong
// says: last|multiple of 4|remainder|% 4
// n / 4 keys a split: the n % 4 keys behind the last split are left out. Right for n below 4.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    int first(int s) override {
        return keys() < N ? Splits::first(s) : keys() / N * s; // wrong: rounds down
    }
};

GPT149_KERNEL({"split_remainder_lost", "four equal splits", "head_dim", accumulators, run<Wrong>})
