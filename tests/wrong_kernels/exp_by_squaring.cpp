// cause: exp_wrong
// says: exp
// (1 + x / 256) to the power of 256 for exp: x^2 / 512 of it is missing.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = highest(scores(), keys());
        for (int j = 0; j < keys(); j++) {
            float p = std::fmax(0.0f, 1 + (scores()[j] - m) / 256); // wrong: exp
            for (int n = 1; n < 256; n *= 2)
                p *= p;
            l += scores()[j] = p;
        }
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"exp_by_squaring", "a row of scores; exp by eight squarings", "n_kv", one_row,
               run<Wrong>})
