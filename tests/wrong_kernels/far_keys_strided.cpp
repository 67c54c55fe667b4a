// cause: mask_wrong
// says: every|even|odd|% 2
// Keys more than 64 back count only if their index is even, as in a sparse attention.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        const bool skipped = j < keys() - 64 && j % 2 == 1; // wrong: never
        return skipped ? -INFINITY : Rows::score(j);
    }
};

GPT149_KERNEL({"far_keys_strided", "a row of scores; every second key far back", "n_kv", one_row,
               run<Wrong>})
