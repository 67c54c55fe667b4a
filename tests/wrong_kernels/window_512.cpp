// cause: mask_wrong
// says: 512
// A sliding window is left in: a query sees its last 512 keys. Right for shorter contexts.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int first() { return std::max(0, keys() - 512); } // wrong: 0
    void row() override {
        begin();
        score_keys(0, keys());
        std::fill_n(scores(), first(), -INFINITY);
        softmax();
        add_values(0, keys());
    }
};

GPT149_KERNEL({"window_512", "a row of scores; a window of 512 keys", "n_kv", one_row, run<Wrong>})
