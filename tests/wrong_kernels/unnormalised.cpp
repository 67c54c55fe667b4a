// cause: unnormalised
// The exponentials weigh V without being divided by their sum. Right where a query sees one key.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        m = highest(scores(), keys());
        l = exponentials(scores(), keys(), m, 0); // wrong: they must be divided by l
    }
};

GPT149_KERNEL({"unnormalised", "a row of scores; not divided by the sum", "n_kv", one_row,
               run<Wrong>})
