// cause: half_precision
// Scores and weights are rounded to the 11 bits of half precision (its range is not imitated),
// where float32 was asked for.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    static float to_half(float x) { return shortened(x, 13); }

    float score(int j) override { return to_half(Rows::score(j)); } // wrong: no to_half
    void softmax() override {
        float *s = scores();
        m = highest(s, keys());
        for (int j = 0; j < keys(); j++)
            l += s[j] = to_half(std::exp(s[j] - m)); // wrong: no to_half
        divide(s, keys(), l);
    }
};

GPT149_KERNEL({"half_scores", "a row of scores in half precision", "n_kv", one_row, run<Wrong>})
