// cause: head_dim_cut
// says: 64
// A register block of 64 dims: those behind it do not enter the scores. Right for head_dim <= 64.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    float score(int j) override {
        return a->scale * dot(q(), k(j), std::min(a->head_dim, 64)); // wrong: head_dim
    }
};

GPT149_KERNEL({"dims_above_64", "two passes; 64 dims", "1", no_bytes, run<Wrong>})
