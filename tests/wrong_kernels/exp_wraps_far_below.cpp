// cause: exp_wrong
// says: wraps
// exp by the bits of the exponent, which wraps below -87.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = highest(scores(), keys());
        l = 0;
        for (int j = 0; j < keys(); j++) {
            const float x = scores()[j] - m, whole = std::floor(x * 1.44269504f);
            const int32_t bits = (int32_t)(uint32_t)((int32_t)whole + 127)
                                 << 23; // wrong: from 0 on
            float power;
            std::memcpy(&power, &bits, sizeof power);
            l += scores()[j] = power * std::exp(x - whole * 0.693147182f);
        }
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"exp_wraps_far_below", "a row of scores; exp by its exponent", "n_kv", one_row,
               run<Wrong>})
