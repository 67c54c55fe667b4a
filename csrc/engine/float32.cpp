// float32: weights in 28 bits (squeeze.h), times activations as they are.
#include "engine/matrix.h"

namespace {
class Float32 : public Weights {
    bool pack(Matrix &m, Pool &pool, const float *w, int in, int out, int64_t in_stride,
              int64_t out_stride, int n_threads) const override {
        return ::pack<float>(m, pool, w, in, out, in_stride, out_stride, n_threads);
    }
    void row(const Matrix &m, int o, float *to) const override { ::row<float>(m, o, to); }
    void multiply(const Product &p) const override { multiply_as<float>(p, p.x, p.x_stride); }
};
} // namespace

EXPORT Weights *gpt149_weights() {
    return new (std::nothrow) Float32;
}
