// cause: sum_wrong
// says: sum|l\b
// The weight of the last visible key is added to the sum twice: once in the loop, once behind it.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = highest(scores(), keys());
        l = exponentials(scores(), keys(), m, 0);
        l += scores()[keys() - 1]; // wrong: it is in l
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"own_key_twice_in_sum", "a row of scores; the last one in l twice", "n_kv", one_row,
               run<Wrong>})
