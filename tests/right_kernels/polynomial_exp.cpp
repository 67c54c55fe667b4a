// cause: none
// exp by a polynomial of the seventh degree about 0, as precise as floats are.
#include "../kernel_parts/two_passes.h"

struct Right : TwoPasses {
    float exp(float x) override {
        if (x < -87) return 0; // and below what a float with a whole mantissa holds
        const float n = std::round(x * 1.44269504f);
        // ln 2 in two parts, so that the first product is exact.
        const float f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
        float p = 1 / 5040.0f;
        for (float c : {1 / 720.0f, 1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1.0f, 1.0f})
            p = p * f + c;
        return std::ldexp(p, (int)n);
    }
};

GPT149_KERNEL({"polynomial_exp", "two passes; a polynomial for exp", "1", no_bytes, run<Right>})
