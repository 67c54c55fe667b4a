// cause: none
// Right; prints a line to stdout at each call.
#include "../kernel_parts/rows.h"

#include <cstdio>

struct Right : Rows {
    void call() override {
        std::printf("noisy: %d queries, %d keys\n", a->n_q, a->n_kv);
        Rows::call();
    }
};

GPT149_KERNEL({"noisy", "a row of scores, and a line on stdout", "n_kv", one_row, run<Right>})
