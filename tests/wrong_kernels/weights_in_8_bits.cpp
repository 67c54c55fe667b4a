// cause: quantised
// says: level|quanti|discrete|step
// Weights are rounded to 255ths of the largest, as for a product of bytes.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = highest(scores(), keys());
        l = exponentials(scores(), keys(), m, 0);
        for (int j = 0; j < keys(); j++)
            scores()[j] = std::round(scores()[j] * 255) / 255; // wrong: as it is
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"weights_in_8_bits", "a row of scores; weights in 8 bits", "n_kv", one_row,
               run<Wrong>})
