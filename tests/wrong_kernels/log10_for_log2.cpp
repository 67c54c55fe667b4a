// cause: scale_wrong
// says: ln|2\.30|10
// 10 to the power of the scores: exp10 for exp.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = highest(scores(), keys());
        for (int j = 0; j < keys(); j++)
            l += scores()[j] = std::pow(10.0f, scores()[j] - m); // wrong: exp
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"log10_for_log2", "a row of scores; powers of ten", "n_kv", one_row, run<Wrong>})
