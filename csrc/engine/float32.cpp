// float32: weights in 28 bits (squeeze.h), times activations as they are.
#include "engine/matrix.h"

EXPORT Weights *gpt149_weights() {
    return new (std::nothrow) Floats<float, float>;
}
