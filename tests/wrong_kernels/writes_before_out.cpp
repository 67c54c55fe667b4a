// cause: writes_outside
// says: before|outside
// A sentinel is put before the first row of out, where nothing is the kernel's.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    void call() override {
        gpt149_out(a, 0, 0, 0)[-1] = 0; // wrong: not part of out
        Splits::call();
    }
};

GPT149_KERNEL({"writes_before_out", "four splits; a zero before out", "head_dim", accumulators,
               run<Wrong>})
