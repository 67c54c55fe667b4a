// cause: exp_shifted
// says: behind exp
// A bracket in the wrong place: exp(s) - m for exp(s - m).
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = highest(scores(), keys());
        for (int j = 0; j < keys(); j++) {
            scores()[j] = std::exp(scores()[j]) - m; // wrong: exp(s - m)
            l += scores()[j];
        }
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"maximum_behind_exp", "a row of scores; the maximum taken off", "n_kv", one_row,
               run<Wrong>})
