// cause: scale_missing + last_key_dropped
// Two mistakes: Q K^T is never multiplied by the scale, and the last of the n_kv keys is never
// seen, unless it is the only one.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override { return dot(q(), k(j), a->head_dim); } // wrong: a->scale * dot
    int keys() override {
        return std::min(gpt149_visible(a, i), std::max(a->n_kv - 1, 1)); // wrong: a->n_kv
    }
};

GPT149_KERNEL({"scale_missing_and_last_key_dropped",
               "a row of scores; no scale, and up to the last key but one", "n_kv", one_row,
               run<Wrong>})
