// cause: not_reentrant
// says: static|global|at the same time
// The accumulator is a static array, which calls at the same time share.
#include "../kernel_parts/two_passes.h"

static float acc[4096];

struct Wrong : TwoPasses {
    float *out() override { return acc; } // wrong: a row of out, or of the workspace
    void row() override {
        TwoPasses::row();
        std::copy_n(acc, a->head_dim, gpt149_out(a, b, h, i));
    }
};

GPT149_KERNEL({"static_accumulator", "two passes; a static accumulator", "4096", no_bytes,
               run<Wrong>})
