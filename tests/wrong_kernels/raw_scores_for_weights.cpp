// cause: exp_not_stored
// says: raw
// exp is summed, and not kept: the weights are the scores themselves, divided by that sum.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = highest(scores(), keys());
        l = 0;
        for (int j = 0; j < keys(); j++)
            l += std::exp(scores()[j] - m); // wrong: scores()[j] = that
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"raw_scores_for_weights", "a row of scores; exp forgotten", "n_kv", one_row,
               run<Wrong>})
