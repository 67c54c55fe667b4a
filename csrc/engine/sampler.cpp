// sampler: what chooses a token from logits, alone, for gpt149/engine/sampling.py. The engine in
// C++ has the same header inside.
#include "engine/sample.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT double gpt149_uniform(uint64_t seed, int64_t sample, int64_t step) {
    return uniform(seed, sample, step);
}

EXPORT int gpt149_choose(const Sampling *sampling, const float *logits, int n, const uint8_t *seen,
                         double u) {
    return choose(*sampling, logits, n, seen, u);
}
