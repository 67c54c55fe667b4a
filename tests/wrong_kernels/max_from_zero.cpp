// cause: max_starts_high
// The maximum of a row starts at 0. Right unless all scores of a row are below -87.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void begin() override {
        Rows::begin();
        m = 0; // wrong: -INFINITY
    }
};

GPT149_KERNEL({"max_from_zero", "a row of scores; m from 0", "n_kv", one_row, run<Wrong>})
