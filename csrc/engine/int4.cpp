// int4: weights of 4.125 bits, times activations in whole numbers (int4.h).
#include "engine/int4.h"

namespace {
class Int4 : public Weights {
    Quantised4 rounded_;
    bool pack(Matrix &m, Pool &pool, const float *w, int in, int out, int64_t in_stride,
              int64_t out_stride, int n_threads) const override {
        return pack4(m, pool, w, in, out, in_stride, out_stride, n_threads);
    }
    void row(const Matrix &m, int o, float *to) const override { row4(m, o, to); }
    bool reserve(int rows, int widest) override { return rounded_.reserve(rows, widest); }
    void keep(int row, const float *x, int n) override { rounded_.keep(row, x, n); }
    void multiply(const Product &p) const override { multiply4(p, rounded_); }
};
} // namespace

EXPORT Weights *gpt149_weights() {
    return new (std::nothrow) Int4;
}
