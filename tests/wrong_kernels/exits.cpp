// cause: exits
// Ends the whole process, with status 0, when there is one query. Else right.
#include "../kernel_parts/rows.h"

#include <cstdlib>

struct Wrong : Rows {
    void call() override {
        if (a->n_q == 1) std::exit(0); // wrong: the process is the caller's
        Rows::call();
    }
};

GPT149_KERNEL({"exits", "a row of scores; exits on a decode step", "n_kv", one_row, run<Wrong>})
