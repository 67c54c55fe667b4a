// cause: out_not_zeroed
// Adds to out without clearing it first, and out arrives uninitialised. Right when it happens to
// hold zeros.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void begin() override { // wrong: out must be cleared too
        m = -INFINITY;
        l = 0;
    }
};

GPT149_KERNEL({"acc_not_reset", "a row of scores; added to what out held", "n_kv", one_row,
               run<Wrong>})
