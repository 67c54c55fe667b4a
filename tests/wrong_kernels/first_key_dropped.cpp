// cause: first_key_dropped
// Loops over the keys from 1, so key 0 is never seen, unless it is the only one in sight. Right
// for such rows alone.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int first() { return gpt149_visible(a, i) > 1 ? 1 : 0; } // wrong: 0
    int keys() override { return gpt149_visible(a, i) - first(); }
    const float *k(int j) override { return Rows::k(first() + j); }
    const float *v(int j) override { return Rows::v(first() + j); }
};

GPT149_KERNEL({"first_key_dropped", "a row of scores; from the second key on", "n_kv", one_row,
               run<Wrong>})
