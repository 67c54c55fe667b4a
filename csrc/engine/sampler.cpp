// sampler: what chooses a token from logits, alone, for gpt149/engine/sampling.py. The engine in
// C++ has the same header inside.
#include "engine/sample.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

// For a sample that has `step` tokens.
EXPORT int gpt149_choose(const Sampling *sampling, const float *logits, int n, const uint8_t *seen,
                         int64_t sample, int64_t step) {
    return choose(*sampling, logits, n, seen, stream_of(sampling->seed, sample, step));
}
