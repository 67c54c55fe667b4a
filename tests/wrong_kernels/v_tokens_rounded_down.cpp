// cause: v_address
// says: rounded down|multiple of 2|\bV\b
// V is read two tokens at a time, twice the first of them.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *v(int j) override { return Rows::v(j / 2 * 2); } // wrong: j
};

GPT149_KERNEL({"v_tokens_rounded_down", "a row of scores; the first of two values", "n_kv", one_row,
               run<Wrong>})
