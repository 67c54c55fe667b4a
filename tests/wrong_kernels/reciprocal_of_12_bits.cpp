// cause: sum_rough
// says: reciprocal|rough
// The sum is divided by with a reciprocal of 12 bits, as an approximate instruction gives it.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = highest(scores(), keys());
        l = exponentials(scores(), keys(), m, 0);
        const float inverse = shortened(1 / l, 12); // wrong: 1 / l
        for (int j = 0; j < keys(); j++)
            scores()[j] *= inverse;
    }
};

GPT149_KERNEL({"reciprocal_of_12_bits", "a row of scores; a rough reciprocal", "n_kv", one_row,
               run<Wrong>})
