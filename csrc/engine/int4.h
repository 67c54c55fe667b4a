// int4.h: y = x W + b with weights of 4.125 bits. 32 inputs of an output share a factor s:
//     w = scale of the output * s * (n - 8),   s = 1 .. 15,   n = 0 .. 15
// Activations are those of int8.h. n is multiplied by them as it is, unsigned; by s, what 32 inputs
// sum up to. 256 of them are exact in int32, and float32 adds up those. Taking a vector apart costs
// three instructions, so that many rows want no copy of W either.
//
// s (n - 8) would fit a byte: the smallest s is as fine as int8, however large others are. It is
// chosen by least squares. Source of both, whole numbers below a float and how they are chosen:
// ggml's k-quants.
#pragma once

#include "engine/int8.h"

#include <limits>

constexpr int SHARED = 32; // inputs with one s; eight times as many are a GROUP of int8.h

// A panel is blocks of GROUP inputs, the last one shorter: a word a lane with their eight s, the
// first lowest; then, for each s, four vectors. A lane of one has four inputs in the lower halves
// of its bytes, and the next four in the upper ones.
constexpr int64_t SHARED_BYTES = SHARED / 8 * VECTOR_BYTES;
constexpr int64_t GROUP_BYTES = VECTOR_BYTES + GROUP / SHARED * SHARED_BYTES;

static inline int64_t bytes4(const Matrix &m) { // of a panel
    const int64_t groups = (m.in + GROUP - 1) / GROUP, shared = (m.in + SHARED - 1) / SHARED;
    return groups * VECTOR_BYTES + shared * SHARED_BYTES;
}
static inline uint8_t *group4(const Matrix &m, int p, int i) { // the block of input i
    return m.data + p * bytes4(m) + i / GROUP * GROUP_BYTES;
}
static inline uint8_t *shared4(uint8_t *group, int i) { // the vectors of input i
    return group + VECTOR_BYTES + i % GROUP / SHARED * SHARED_BYTES;
}

static inline Ints lower(Bits halves) {
    return (Ints)(halves & 0x0f0f0f0f);
}
static inline Ints upper(Bits halves) {
    return (Ints)(halves >> 4 & 0x0f0f0f0f);
}

static inline Vector clamped(Vector x, float least, float most) {
    x = larger(x, splat(least));
    return x > most ? splat(most) : x;
}
static inline Vector nearest(Vector w, Vector inverse) { // n - 8
    return clamped(w * inverse, -8, 7) + ROUNDS - ROUNDS;
}

// The s of weights relative to the scales of their outputs: the best of three, of which the first
// cuts nothing off.
static Vector shared_factor(const Vector (&w)[SHARED]) {
    Vector most = {}, best = {}, least = splat(std::numeric_limits<float>::infinity());
    for (const Vector &x : w)
        most = larger(larger(x, -x), most);
    const Vector first = (most * (1 / 7.5f) + 0.5f) + ROUNDS - ROUNDS;
    for (int k = 0; k < 3; k++) {
        const Vector s = clamped(first - (float)k, 1, 15), inverse = 1.0f / s;
        Vector error = {};
        for (const Vector &x : w) {
            const Vector off = x - s * nearest(x, inverse);
            error += off * off;
        }
        best = error < least ? s : best;
        least = error < least ? error : least;
    }
    return best;
}

static void pack_panel4(Matrix &m, int p, const float *w, int64_t in_stride, int64_t out_stride) {
    static_assert(SHARED % LANES == 0);
    Vector rows[SHARED], most = {}, odd = {}; // odd: NaN, where an output has NaN or infinity
    const auto read = [&](int from) {
        for (int i = 0; i < SHARED; i += LANES)
            block(m, p, from + i, w, in_stride, out_stride, *(Vector(*)[LANES])(rows + i));
    };
    for (int i = 0; i < m.in; i += SHARED) {
        read(i);
        for (const Vector &row : rows) {
            most = larger(larger(row, -row), most);
            odd += row * 0.0f;
        }
    }
    // The largest with s = 15: 7.5 is as far from 7 as from 8.
    const Vector scale = most / (15 * 7.5f) + odd;
    const Vector inverse = scale > 0.0f ? 1.0f / scale : Vector{};
    store(m.scales + p * LANES, scale);
    for (int i = 0; i < m.in; i += SHARED) {
        read(i);
        for (Vector &row : rows)
            row *= inverse;
        const Vector s = shared_factor(rows), s_inverse = 1.0f / s;
        Bits bytes[SHARED / 4] = {};
        for (int k = 0; k < SHARED; k++)
            bytes[k / 4] |= ((Bits)(nearest(rows[k], s_inverse) + (ROUNDS + 8)) & 15) << k % 4 * 8;
        uint8_t *group = group4(m, p, i), *to = shared4(group, i);
        for (int j = 0; j < SHARED / 8; j++)
            store_as(to + j * VECTOR_BYTES, bytes[2 * j] | bytes[2 * j + 1] << 4);
        const Bits others = i % GROUP ? load_as<Bits>(group) : Bits{};
        store_as(group, others | ((Bits)(s + ROUNDS) & 15) << i % GROUP / SHARED * 4);
    }
}

// See Weights.
static bool pack4(Matrix &m, Pool &pool, const float *w, int in, int out, int64_t in_stride,
                  int64_t out_stride, int n_threads) {
    m.in = in, m.out = out, m.type = INT4;
    if (!reserve(m, pool, bytes4(m))) return false;
    if (pool.filled()) return true;
#pragma omp parallel for num_threads(n_threads)
    for (int p = 0; p < m.panels(); p++)
        pack_panel4(m, p, w, in_stride, out_stride);
    return true;
}

// See Weights.
static void row4(const Matrix &m, int o, float *to) {
    const int lane = o % LANES;
    for (int i = 0; i < m.in; i++) {
        uint8_t *group = group4(m, o / LANES, i);
        const uint32_t s = load_as<Bits>(group)[lane] >> i % GROUP / SHARED * 4 & 15;
        const uint8_t both = shared4(group, i)[i % SHARED / 8 * VECTOR_BYTES + lane * 4 + i % 4];
        to[i] = m.scales[o] * (int)s * ((both >> i % 8 / 4 * 4 & 15) - 8);
    }
}

// Rows of x, rounded, and where the sums of SHARED of its inputs start.
struct Quantised4 : Quantised {
    Memory<int32_t> starts; // (rows, width / SHARED)

    bool reserve(int rows, int widest) {
        if (!Quantised::reserve(rows, widest)) return false;
        starts = allocate<int32_t>(rows * width / SHARED);
        return !!starts;
    }

    void keep(int row, const float *x, int n) {
        Quantised::keep(row, x, n);
        int8_t *rounded = values.get() + row * width;
        std::memset(rounded + n, 0, (n + SHARED - 1) / SHARED * SHARED - n);
        int32_t *start = starts.get() + row * width / SHARED;
        for (int i = 0; i < n; i += SHARED, start++) {
            int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int k = 0; k < SHARED; k++)
                sum += rounded[i + k];
            *start = -8 * sum;
        }
    }
};

// Of a product with what x keeps, ROWS rows and PANELS panels.
template <int ROWS, int PANELS>
static void product4(const Product &product, const Quantised4 &x, int first_row, int p) {
    const Matrix &w = product.w;
    const bool distant = w.distant() && first_row == 0;
    const uint8_t *at[PANELS];
    for (int c = 0; c < PANELS; c++)
        at[c] = group4(w, p + c, 0);
    const int row = product.row + first_row;
    const int8_t *values = x.values.get() + row * x.width;
    const int32_t *starts = x.starts.get() + row * x.width / SHARED;
    const float *scales = x.scales.get() + row * x.groups();
    Vector sum[ROWS][PANELS] = {};
    for (int from = 0; from < w.in; from += GROUP, scales++) {
        Ints whole[ROWS][PANELS] = {};
        const int to = std::min(from + GROUP, w.in);
        // To the block that these panels, or the ones behind them, are read next.
        const int64_t ahead =
            to < w.in ? GROUP_BYTES : (bytes4(w) - 1) % GROUP_BYTES + 1 + (PANELS - 1) * bytes4(w);
        Bits s[PANELS];
        for (int c = 0; c < PANELS; c++, at[c - 1] += VECTOR_BYTES) {
            if (distant) prefetch(at[c] + ahead, VECTOR_BYTES);
            s[c] = load_as<Bits>(at[c]);
        }
        for (int i = from; i < to; i += SHARED, values += SHARED, starts++) {
            Ints part[ROWS][PANELS];
            for (int r = 0; r < ROWS; r++)
                for (int c = 0; c < PANELS; c++)
                    part[r][c] = Ints{} + starts[r * x.width / SHARED];
#pragma GCC unroll 4
            for (int j = 0; j < SHARED / 8; j++)
                for (int c = 0; c < PANELS; c++) {
                    if (distant) prefetch(at[c] + j * VECTOR_BYTES + ahead, VECTOR_BYTES);
                    const Bits halves = load_as<Bits>(at[c] + j * VECTOR_BYTES);
                    for (int r = 0; r < ROWS; r++) {
                        const int8_t *eight = values + r * x.width + 8 * j;
                        part[r][c] = add_products(part[r][c], lower(halves), repeat_four(eight));
                        part[r][c] =
                            add_products(part[r][c], upper(halves), repeat_four(eight + 4));
                    }
                }
            for (int c = 0; c < PANELS; c++, at[c - 1] += SHARED_BYTES) {
                for (int r = 0; r < ROWS; r++)
                    whole[r][c] += part[r][c] * (Ints)(s[c] & 15);
                s[c] >>= 4;
            }
        }
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < PANELS; c++)
                sum[r][c] += scales[r * x.groups()] * __builtin_convertvector(whole[r][c], Vector);
    }
    float *y = product.y + first_row * product.y_stride;
    finish<ROWS, PANELS>(w, sum, {y, product.y_stride, p, product.epilogue, product.activation}, 1);
}

template <int PANELS> static void panels4(const Product &product, const Quantised4 &x, int p) {
    int r = 0;
    for (; r + 4 <= product.n_rows; r += 4)
        product4<4, PANELS>(product, x, r, p);
    for (; r + 2 <= product.n_rows; r += 2)
        product4<2, PANELS>(product, x, r, p);
    for (; r < product.n_rows; r++)
        product4<1, PANELS>(product, x, r, p);
}

// The product with what x keeps.
static void multiply4(const Product &product, const Quantised4 &x) {
    const int last = product.panels.last;
    int p = product.panels.first;
    if (product.n_rows == 1)
        for (; p + 6 <= last; p += 6)
            product4<1, 6>(product, x, 0, p);
    for (; p + 3 <= last; p += 3)
        panels4<3>(product, x, p);
    for (; p < last; p++)
        panels4<1>(product, x, p);
}
