// cause: normalised_twice
// The weights are divided by their sum, and the output is divided by it once more. Right where a
// query sees one key.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void row() override {
        Rows::row();
        divide(out(), a->head_dim, l); // wrong: softmax() has done so
    }
};

GPT149_KERNEL({"normalised_twice", "a row of scores; divided by the sum twice", "n_kv", one_row,
               run<Wrong>})
