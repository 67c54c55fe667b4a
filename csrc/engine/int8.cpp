// int8: weights and activations in whole numbers (int8.h).
#include "engine/int8.h"

namespace {
class Int8 : public Weights {
    Quantised rounded_;
    bool pack(Matrix &m, Pool &pool, const float *w, int in, int out, int64_t in_stride,
              int64_t out_stride, int n_threads) const override {
        return ::pack<int8_t>(m, pool, w, in, out, in_stride, out_stride, n_threads);
    }
    void row(const Matrix &m, int o, float *to) const override { ::row<int8_t>(m, o, to); }
    bool reserve(int rows, int widest) override { return rounded_.reserve(rows, widest); }
    void keep(int row, const float *x, int n) override { rounded_.keep(row, x, n); }
    void multiply(const Product &p) const override { multiply8(p, rounded_); }
};
} // namespace

EXPORT Weights *gpt149_weights() {
    return new (std::nothrow) Int8;
}
