// matrix.h: weights packed once for streaming, and y = x W + b for few rows and for many.
//
// A panel is LANES columns of W: (in, LANES), so that a step along `in` is one vector and a whole
// panel one run of memory. Products keep ROWS x PANELS accumulators in registers, as `simd` does:
// 8 x 3 for a prefill, which the arithmetic bounds, 1 x 8 for decode, which reading W bounds: eight
// panels are eight distant streams, which memory serves faster than one.
//
// Stored as float32, bfloat16, or int8 with a scale for each column. Two inputs of bfloat16 share a
// lane: (in / 2, LANES, 2). x is float32, or bfloat16 where the CPU multiplies pairs of those fast;
// sums are float32. Products with int8 are another matter, see int8.h.
#pragma once

#include "simd.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>

enum WeightType : int32_t { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2 };

struct Free {
    void operator()(void *memory) const { std::free(memory); }
};
template <typename T> using Memory = std::unique_ptr<T[], Free>;

// On cache lines.
template <typename T> static Memory<T> allocate_unset(int64_t n) {
    return Memory<T>((T *)std::aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64 + 64));
}

template <typename T> static Memory<T> allocate(int64_t n) {
    Memory<T> memory = allocate_unset<T>(n);
    if (memory) std::memset(memory.get(), 0, n * sizeof(T));
    return memory;
}

// The share [first, last) of n things that falls to one of n_threads.
struct Share {
    int first, last;
    Share(int n, int thread, int n_threads)
        : first((int64_t)n * thread / n_threads), last((int64_t)n * (thread + 1) / n_threads) {}
};

static inline bfloat16 to_bfloat16(float x) { // to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return std::isnan(x) ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

struct Matrix {
    int in = 0, out = 0;
    WeightType type = FLOAT32;
    Memory<uint8_t> data;       // (panels, in, LANES) floats; else see place16 and place8
    Memory<float> scales, bias; // (out, padded to whole panels); scales of int8 alone

    int panels() const { return (out + LANES - 1) / LANES; }
    template <typename T> const T *panel(int p) const {
        return (const T *)data.get() + (int64_t)p * in * LANES;
    }

    // int8, with 128 added: (panels, in / 4, LANES, 4), `in` padded to whole fours.
    int64_t bytes8() const { return (int64_t)(in + 3) / 4 * 4 * LANES; } // a panel
    const uint8_t *panel8(int p) const { return data.get() + p * bytes8(); }
    int64_t place8(int p, int i, int lane) const {
        return p * bytes8() + i / 4 * 4 * LANES + lane * 4 + i % 4;
    }

    // bfloat16: where in a panel.
    static int64_t place16(int i, int lane) { return i / 2 * 2 * LANES + lane * 2 + i % 2; }

    // w[i * in_stride + o * out_stride] is what multiplies input i for output o; one stride is 1.
    bool pack(WeightType as, const float *w, int n_in, int n_out, int64_t in_stride,
              int64_t out_stride, int n_threads) {
        in = n_in, out = n_out;
        type = as == BFLOAT16 && in % 2 ? FLOAT32 : as; // no half pairs
        const int64_t n = (int64_t)panels() * in * LANES;
        data = allocate_unset<uint8_t>(type == FLOAT32    ? n * 4
                                       : type == BFLOAT16 ? n * 2
                                                          : panels() * bytes8());
        bias = allocate<float>(panels() * LANES);
        if (type == INT8) scales = allocate<float>(panels() * LANES);
        if (!data || !bias || (type == INT8 && !scales)) return false;
#pragma omp parallel for num_threads(n_threads)
        for (int p = 0; p < panels(); p++)
            pack_panel(p, w, in_stride, out_stride);
        return true;
    }

    // Row o of W, that is, what a one in output o reads: an embedding.
    void row(int o, float *to) const {
        const int p = o / LANES, lane = o % LANES;
        for (int i = 0; i < in; i++)
            to[i] = type == FLOAT32    ? panel<float>(p)[i * LANES + lane]
                    : type == BFLOAT16 ? to_float(panel<bfloat16>(p)[place16(i, lane)])
                                       : scales[o] * (data[place8(p, i, lane)] - 128);
    }

  private:
    // For inputs i to i + LANES, the outputs of panel p; zeros outside the matrix.
    void block(int p, int i, const float *w, int64_t in_stride, int64_t out_stride,
               Vector (&rows)[LANES]) const {
        const int first = p * LANES, width = std::min(LANES, out - first);
        const int height = std::min(LANES, in - i);
        const bool across = in_stride == 1; // then a load takes an output's inputs
        const float *corner = w + i * in_stride + first * out_stride;
        for (int r = 0; r < LANES; r++) {
            const float *at = corner + r * (across ? out_stride : in_stride);
            const int n = across ? height : width, rows_left = across ? width : height;
            rows[r] = r >= rows_left ? Vector{} : n == LANES ? load(at) : load_some(at, n);
        }
        if (across) transpose(rows);
    }

    void pack_panel(int p, const float *w, int64_t in_stride, int64_t out_stride) {
        Vector rows[LANES], most = {}, odd = {}; // odd: NaN, where an output has NaN or infinity
        for (int i = 0; i < in && type == INT8; i += LANES) {
            block(p, i, w, in_stride, out_stride, rows);
            for (const Vector &row : rows) {
                most = larger(larger(row, -row), most);
                odd += row * 0.0f;
            }
        }
        const Vector inverse = most > 0.0f ? 127.0f / most : Vector{};
        if (type == INT8) store(scales.get() + p * LANES, most / 127.0f + odd);
        for (int i = 0; i < in; i += LANES) {
            block(p, i, w, in_stride, out_stride, rows);
            const int n = std::min(LANES, in - i) * LANES;
            const int64_t at = ((int64_t)p * in + i) * LANES;
            const float *x = (const float *)rows;
            if (type == FLOAT32) std::memcpy((float *)data.get() + at, x, n * sizeof(float));
            if (type == BFLOAT16)
                for (int k = 0; k < n; k++) // n / LANES inputs, of which two share a lane
                    ((bfloat16 *)data.get())[at + place16(k / LANES, k % LANES)] =
                        to_bfloat16(x[k]);
            if (type == INT8)
                for (int k = 0; k < std::min(LANES, in - i); k += 4)
                    pack_four(data.get() + place8(p, i + k, 0), rows + k, inverse);
        }
    }

    // Four inputs of LANES outputs, rounded.
    static void pack_four(uint8_t *to, const Vector *rows, Vector inverse) {
        Bits bytes = {};
        for (int k = 0; k < 4; k++) {
            const Vector shifted = rows[k] * inverse + 12582912.0f; // as in Quantised
            bytes |= (((Bits)shifted + 128) & 0xff) << 8 * k;
        }
        std::memcpy(to, &bytes, sizeof bytes);
    }
};

// What becomes of x W + b: replaces y; through the activation first; is added to y.
enum Epilogue { REPLACE, ACTIVATE, ADD };
enum Activation : int32_t { GELU = 0, GELU_TANH = 1, RELU = 2 };

static inline Vector activate(Activation activation, Vector x) {
    if (activation == RELU) return larger(x, Vector{});
    if (activation == GELU) {
        for (int i = 0; i < LANES; i++)
            x[i] = 0.5f * x[i] * (1 + std::erf(x[i] * (float)M_SQRT1_2));
        return x;
    }
    // x / 2 (1 + tanh u) = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3)
    const Vector u2 = x * (-2.302208198f - 0.1029432397f * x * x); // -2 u log2(e)
    return x / (1 + exp2(u2));
}

// Where a product's sums go: y (rows, out) from panel p on. first, last: of the inputs.
struct Target {
    float *y;
    int64_t stride;
    int p;
    bool first, last;
    Epilogue epilogue;
    Activation activation;
};

// Apart from `product`, so that nothing here takes registers there.
template <typename T, int ROWS, int PANELS>
[[gnu::noinline]] static void finish(const Matrix &w, const Vector (&sum)[ROWS][PANELS],
                                     const Target &t) {
    for (int c = 0; c < PANELS; c++) {
        const int o = (t.p + c) * LANES, width = std::min(LANES, w.out - o);
        const Vector bias = load(w.bias.get() + o);
        const Vector scale = std::is_same_v<T, int8_t> ? load(w.scales.get() + o) : splat(1);
        for (int r = 0; r < ROWS; r++) {
            float *at = t.y + r * t.stride + o;
            Vector z = scale * sum[r][c];
            if (t.first) z += bias;
            if (!t.first || t.epilogue == ADD)
                z += width == LANES ? load(at) : load_some(at, width);
            if (t.last && t.epilogue == ACTIVATE) z = activate(t.activation, z);
            width == LANES ? store(at, z) : store_some(at, z, width);
        }
    }
}

// To sum: what a vector of w, of type T, holds of one input or two, times that of x.
template <typename T> static inline Vector add_product(Vector sum, const float *x, Vector column) {
    if (std::is_same_v<T, float>) return sum + x[0] * column;
    const Bits pairs = (Bits)column;
    return sum + x[0] * (Vector)(pairs << 16) + x[1] * (Vector)(pairs & 0xffff0000);
}

#if defined(FAST_PAIRS)
template <typename T>
static inline Vector add_product(Vector sum, const bfloat16 *x, Vector column) {
    int32_t pair;
    std::memcpy(&pair, x, sizeof pair);
    return add_products(sum, Ints{} + pair, (Ints)column);
}
#endif

// ROWS of x times PANELS of w over inputs [from, to); what was summed before is added up in y.
template <typename T, int ROWS, int PANELS, typename X>
static void product(const Matrix &w, const X *x, int64_t x_stride, float *y, int64_t y_stride,
                    int p, int from, int to, Epilogue epilogue, Activation activation) {
    const T *panel[PANELS];
    for (int c = 0; c < PANELS; c++)
        panel[c] = w.panel<T>(p + c);
    Vector sum[ROWS][PANELS] = {};
    constexpr int STEP = sizeof(float) / sizeof(T); // inputs in a lane
    for (int64_t i = from; i < to; i += STEP) {
        Vector column[PANELS];
        for (int c = 0; c < PANELS; c++) {
            column[c] = load((const float *)(panel[c] + i * LANES));
            if (ROWS == 1) __builtin_prefetch(panel[c] + i * LANES + 1024 / sizeof(T));
        }
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < PANELS; c++)
                sum[r][c] = add_product<T>(sum[r][c], x + r * x_stride + i, column[c]);
    }
    const Target target = {y, y_stride, p, from == 0, to == w.in, epilogue, activation};
    finish<T, ROWS, PANELS>(w, sum, target);
}

constexpr int MANY = REGISTERS == 32 ? 8 : 4; // rows at once
constexpr int INPUTS = 512; // at once, of many rows: so much of three panels stays in a cache

template <typename T, int ROWS, int PANELS, typename X>
static int products(const Matrix &w, const X *x, int64_t x_stride, float *y, int64_t y_stride,
                    int n_rows, int p, int from, int to, Epilogue e, Activation a) {
    int r = 0;
    for (; r + ROWS <= n_rows; r += ROWS)
        product<T, ROWS, PANELS>(w, x + r * x_stride, x_stride, y + r * y_stride, y_stride, p, from,
                                 to, e, a);
    return r;
}

template <typename T, int PANELS, typename X>
static void rows_of_panels(const Matrix &w, const X *x, int64_t x_stride, float *y,
                           int64_t y_stride, int n_rows, int p, Epilogue e, Activation a) {
    const int step = n_rows < MANY ? w.in : INPUTS;
    for (int from = 0; from < w.in; from += step) {
        const int to = std::min(from + step, w.in);
        int r = products<T, MANY, PANELS>(w, x, x_stride, y, y_stride, n_rows, p, from, to, e, a);
        r += products<T, 2, PANELS>(w, x + r * x_stride, x_stride, y + r * y_stride, y_stride,
                                    n_rows - r, p, from, to, e, a);
        products<T, 1, PANELS>(w, x + r * x_stride, x_stride, y + r * y_stride, y_stride,
                               n_rows - r, p, from, to, e, a);
    }
}

// y (n_rows, out) from x (n_rows, in): a thread's share of the columns.
template <typename T, typename X>
static void multiply_as(const Matrix &w, const X *x, int64_t x_stride, float *y, int64_t y_stride,
                        int n_rows, Epilogue e, Activation a, int thread, int n_threads) {
    const Share share(w.panels(), thread, n_threads);
    int p = share.first;
    if (n_rows == 1)
        for (; p + 8 <= share.last; p += 8)
            product<T, 1, 8>(w, x, x_stride, y, y_stride, p, 0, w.in, e, a);
    if (n_rows == 1)
        for (; p + 4 <= share.last; p += 4)
            product<T, 1, 4>(w, x, x_stride, y, y_stride, p, 0, w.in, e, a);
    for (; p + 3 <= share.last; p += 3)
        rows_of_panels<T, 3>(w, x, x_stride, y, y_stride, n_rows, p, e, a);
    for (; p < share.last; p++)
        rows_of_panels<T, 1>(w, x, x_stride, y, y_stride, n_rows, p, e, a);
}

// Rows of x in bfloat16.
struct Halved {
    int64_t width = 0;
    Memory<bfloat16> values; // (rows, width)

    bool reserve(int rows, int widest) {
        width = widest + LANES; // no rows 4 KB apart
        values = allocate<bfloat16>(rows * width);
        return !!values;
    }
    void keep(int row, const float *x, int n) {
        for (int i = 0; i < n; i++)
            values[row * width + i] = to_bfloat16(x[i]);
    }
};

static void multiply(const Matrix &w, const float *x, int64_t x_stride, float *y, int64_t y_stride,
                     int n_rows, Epilogue e, Activation a, int thread, int n_threads) {
    const auto as = w.type == FLOAT32 ? multiply_as<float, float> : multiply_as<bfloat16, float>;
    as(w, x, x_stride, y, y_stride, n_rows, e, a, thread, n_threads);
}
