// cause: none
// log2(e) is folded into the scale, and exp2 takes the place of exp.
#include "../kernel_parts/two_passes.h"

struct Right : TwoPasses {
    float score(int j) override { return a->scale * 1.44269504f * dot(q(), k(j), a->head_dim); }
    float exp(float x) override { return std::exp2(x); }
};

GPT149_KERNEL({"base_2", "two passes in base 2", "1", no_bytes, run<Right>})
