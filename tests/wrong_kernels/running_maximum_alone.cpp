// cause: not_rescaled
// says: rescaled
// The maximum is the one so far, and nothing is rescaled where it rises.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        for (int j = 0; j < keys(); j++) {
            m = std::fmax(m, scores()[j]); // wrong: what is summed so far is relative to another
            scores()[j] = std::exp(scores()[j] - m);
            l += scores()[j];
        }
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"running_maximum_alone", "a row of scores; the maximum as it comes", "n_kv", one_row,
               run<Wrong>})
