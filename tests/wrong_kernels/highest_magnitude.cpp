// cause: max_starts_high
// says: maximum
// The maximum is that of the scores' magnitudes: where all scores are far below 0, exp underflows
// and a row is 0 / 0.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = 0;
        for (int j = 0; j < keys(); j++)
            m = std::fmax(m, std::fabs(scores()[j])); // wrong: scores()[j], and m from -inf
        l = exponentials(scores(), keys(), m, 0);
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"highest_magnitude", "a row of scores; the maximum of |s|", "n_kv", one_row,
               run<Wrong>})
