// cause: scale_wrong
// says: 0\.998|1\.44|log2
// exp2 of scores times log2(e), which is rounded to 1.44.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    float score(int j) override {
        return 1.44f * TwoPasses::score(j); // wrong: 1.44269504f
    }
    float exp(float x) override { return std::exp2(x); }
};

GPT149_KERNEL({"log2e_short", "two passes in base 2, log2(e) = 1.44", "1", no_bytes, run<Wrong>})
