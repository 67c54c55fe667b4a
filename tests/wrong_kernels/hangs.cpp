// cause: hang
// Waits for ever when there are more than 64 keys. Else right.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void call() override {
        volatile bool waiting = a->n_kv > 64;
        while (waiting) { // wrong: nothing ends the wait
        }
        Rows::call();
    }
};

GPT149_KERNEL({"hangs", "a row of scores; at most 64 keys", "n_kv", one_row, run<Wrong>})
