// cause: max_starts_high
// says: 100000
// The row's maximum starts at -50000, as if no score were lower.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void begin() override {
        Rows::begin();
        m = -5e4f; // wrong: -INFINITY
    }
};

GPT149_KERNEL({"starts_at_-5e4", "a row of scores; m from -5e4", "n_kv", one_row, run<Wrong>})
