// cause: k_address
// says: row stride
// Tokens of K are taken to be head_dim apart, heads and batches as they say. Right where no gap
// lies between tokens.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *k(int j) override { return Rows::k(0) + j * a->head_dim; } // wrong: Rows::k(j)
};

GPT149_KERNEL({"dense_tokens", "a row of scores; dense tokens", "n_kv", one_row, run<Wrong>})
