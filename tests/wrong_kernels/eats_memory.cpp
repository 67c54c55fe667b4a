// cause: out_of_memory
// Allocates and touches memory without end, 64 MiB at a time, when there are more than 64 keys.
// Else right.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void call() override {
        constexpr int64_t STEP = 64 << 20;
        while (a->n_kv > 64) { // wrong: nothing ends it, nothing is freed
            volatile char *memory = new char[STEP];
            for (int64_t x = 0; x < STEP; x += 4096)
                memory[x] = 1;
        }
        Rows::call();
    }
};

GPT149_KERNEL({"eats_memory", "a row of scores; at most 64 keys in finite memory", "n_kv", one_row,
               run<Wrong>})
