// bfloat16: weights in 12 bits (squeeze.h), times activations as they are, or, where the CPU
// multiplies two bfloat16 to a lane fast, rounded to bfloat16.
#include "engine/matrix.h"

EXPORT Weights *gpt149_weights() {
#if defined(FAST_PAIRS)
    return new (std::nothrow) Floats<bfloat16, bfloat16>;
#else
    return new (std::nothrow) Floats<bfloat16, float>;
#endif
}
