// cause: hidden_rows_mean
// says: mean
// Padding is hidden by a score of -1e9: where all are, they weigh the same.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    int first() override { return 0; }
    float score(int j) override {
        return a->kv_begin && j < a->kv_begin[b] ? -1e9f : Varied::score(j); // wrong: -INFINITY
    }
};

GPT149_KERNEL({"hidden_rows_mean", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_KV_BEGIN})
