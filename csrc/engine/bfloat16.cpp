// bfloat16: weights in 12 bits (squeeze.h), times activations as they are, or, where the CPU
// multiplies two bfloat16 to a lane fast, rounded to bfloat16.
#include "engine/matrix.h"

namespace {
class Bfloat16 : public Weights {
#if defined(FAST_PAIRS)
    Halved halved_;
    bool rounds() const override { return true; }
    bool reserve(int rows, int widest) override { return halved_.reserve(rows, widest); }
    void keep(int row, const float *x, int n) override { halved_.keep(row, x, n); }
    void round(float *x, int n) const override {
        for (int i = 0; i < n; i++)
            x[i] = to_float(to_bfloat16(x[i]));
    }
#endif
    bool pack(Matrix &m, Pool &pool, const float *w, int in, int out, int64_t in_stride,
              int64_t out_stride, int n_threads) const override {
        return ::pack<bfloat16>(m, pool, w, in, out, in_stride, out_stride, n_threads);
    }
    void row(const Matrix &m, int o, float *to) const override { ::row<bfloat16>(m, o, to); }
    void multiply(const Product &p) const override {
#if defined(FAST_PAIRS)
        const bfloat16 *x = halved_.values.get() + p.row * halved_.width;
        multiply_as<bfloat16>(p, x, halved_.width);
#else
        multiply_as<bfloat16>(p, p.x, p.x_stride);
#endif
    }
};
} // namespace

EXPORT Weights *gpt149_weights() {
    return new (std::nothrow) Bfloat16;
}
