// cause: mask_wrong
// says: last 600
// A decode step takes at most 600 keys, the last ones.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        const bool unseen = a->n_q == 1 && j < a->n_kv - 600; // wrong: none is
        return unseen ? -INFINITY : Rows::score(j);
    }
};

GPT149_KERNEL({"decode_over_600", "a row of scores; 600 in decode", "n_kv", one_row, run<Wrong>})
