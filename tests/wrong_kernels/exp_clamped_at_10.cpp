// cause: exp_clamped
// says: \b10\b
// The argument of exp is clamped at -10, so that weights are 5e-5 at least.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    float exp(float x) override { return std::exp(std::fmax(x, -10.0f)); } // wrong: x
};

GPT149_KERNEL({"exp_clamped_at_10", "two passes; exp from -10 on", "1", no_bytes, run<Wrong>})
