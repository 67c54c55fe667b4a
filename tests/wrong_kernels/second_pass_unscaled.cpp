// cause: scale_wrong
// says: sqrt\(head_dim\)
// The first pass multiplies the scores by the scale, the second does not. Right when it is 1.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    void second_pass() override {
        for (int j = 0; j < keys(); j++) {
            const float s = dot(q(), k(j), a->head_dim); // wrong: times a->scale
            const float p = std::exp(std::fmin(s - m, 80.0f)) / l;
            for (int x = 0; x < a->head_dim; x++)
                out()[x] += p * v(j)[x];
        }
    }
};

GPT149_KERNEL({"second_pass_unscaled", "two passes; the second without the scale", "1", no_bytes,
               run<Wrong>})
