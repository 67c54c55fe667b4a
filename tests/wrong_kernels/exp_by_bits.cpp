// cause: exp_wrong
// says: exp
// Schraudolph's exp: a straight line put into a float's bits, up to 3 % off.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    float exp(float x) override {
        const float line = 12102203.0f * std::fmax(x, -80.0f) + 1064866805.0f; // wrong: exp
        const int32_t bits = (int32_t)line;
        float power;
        std::memcpy(&power, &bits, sizeof power);
        return power;
    }
};

GPT149_KERNEL({"exp_by_bits", "two passes; exp by a float's bits", "1", no_bytes, run<Wrong>})
