// cause: sum_wrong
// says: raw scores
// What is added up is the score, before exp is taken of it.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = highest(scores(), keys());
        for (int j = 0; j < keys(); j++) {
            l += scores()[j]; // wrong: one line further down
            scores()[j] = std::exp(scores()[j] - m);
        }
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"sum_of_scores", "a row of scores; summed as they are", "n_kv", one_row, run<Wrong>})
