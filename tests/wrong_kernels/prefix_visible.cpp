// cause: mask_wrong
// says: first 8|0-7|\b8\b
// A prefix of eight keys is seen by every query, also by those before it. Right without a mask, and
// for decode steps.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int keys() override {
        return std::max(gpt149_visible(a, i), std::min(8, a->n_kv)); // wrong: gpt149_visible
    }
};

GPT149_KERNEL({"prefix_visible", "a row of scores; a visible prefix", "n_kv", one_row, run<Wrong>})
