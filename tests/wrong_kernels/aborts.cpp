// cause: crash
// Aborts the process when the call is causal. Else right.
#include "../kernel_parts/rows.h"

#include <cstdlib>

struct Wrong : Rows {
    void call() override {
        if (a->causal) std::abort(); // wrong: the process is the caller's
        Rows::call();
    }
};

GPT149_KERNEL({"aborts", "a row of scores; aborts on a mask", "n_kv", one_row, run<Wrong>})
