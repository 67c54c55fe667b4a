// cause: sum_so_far
// says: so far
// Each weight is divided by the sum of those up to it, while they are still added up.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = highest(scores(), keys());
        for (int j = 0; j < keys(); j++) {
            scores()[j] = std::exp(scores()[j] - m);
            l += scores()[j];
            scores()[j] /= l; // wrong: when all are added up
        }
    }
};

GPT149_KERNEL({"divided_by_the_sum_so_far",
               "a row of scores; one loop for the sum and the division", "n_kv", one_row,
               run<Wrong>})
