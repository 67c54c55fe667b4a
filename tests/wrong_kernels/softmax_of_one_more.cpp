// cause: sum_wrong
// says: \b1\b|extra
// "Softmax one": the sum starts at exp(0 - m), so that a row of low scores attends to nothing.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = std::fmax(0.0f, highest(scores(), keys()));
        l = exponentials(scores(), keys(), m, std::exp(-m)); // wrong: 0
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"softmax_of_one_more", "a row of scores; exp(0) in the sum", "n_kv", one_row,
               run<Wrong>})
