// matrix.h: weights packed once for streaming, and y = x W + b for few rows and for many.
//
// A panel is LANES columns of W, one run of memory, in which a step along `in` is one vector. Few
// rows, whose product reading W bounds, go through four panels at once: distant streams, which
// memory serves faster than one. Many rows, whose product the arithmetic bounds, keep ROWS x PANELS
// accumulators in registers as `simd` does, 8 x 3, and multiply a copy of three panels' next inputs
// that was taken apart once for all of them.
//
// Kept as float32 or bfloat16 in fewer bits (squeeze.h), or as int8, with a scale for each output.
// x is float32, or bfloat16 where the CPU multiplies two of those to a lane fast; sums are float32.
// Products with int8 and int4 are another matter, see int8.h and int4.h.
#pragma once

#include "engine/squeeze.h"
#include "engine/weights.h"

#include <algorithm>
#include <cmath>

constexpr int AHEAD = 1024; // bytes, of what is read in a row

static inline int blocks(const Matrix &m) { // of a panel; zeros behind the inputs
    return (m.in + BLOCK - 1) / BLOCK;
}
template <typename T> static inline uint8_t *panel(const Matrix &m, int p) {
    return m.data + (int64_t)p * blocks(m) * BLOCK_BYTES<T>;
}

// int8, with 128 added: (panels, in / 4, LANES, 4), `in` padded to whole fours.
static inline int64_t bytes8(const Matrix &m) { // of a panel
    return (int64_t)(m.in + 3) / 4 * 4 * LANES;
}
static inline const uint8_t *panel8(const Matrix &m, int p) {
    return m.data + p * bytes8(m);
}
static inline int64_t place8(const Matrix &m, int p, int i, int lane) {
    return p * bytes8(m) + i / 4 * 4 * LANES + lane * 4 + i % 4;
}

// Four inputs of LANES outputs, rounded.
static inline void pack_four(uint8_t *to, const Vector *rows) {
    Bits bytes = {};
    for (int k = 0; k < 4; k++) {
        const Vector shifted = rows[k] + ROUNDS;
        bytes |= (((Bits)shifted + 128) & 0xff) << 8 * k;
    }
    std::memcpy(to, &bytes, sizeof bytes);
}

// T is float, bfloat16 or int8_t.
template <typename T> constexpr bool WHOLE = std::is_same_v<T, int8_t>;
template <typename T>
constexpr WeightType TYPE = WHOLE<T>                   ? INT8
                            : std::is_same_v<T, float> ? FLOAT32
                                                       : BFLOAT16;

// Memory for what is packed, so many bytes a panel; false where there is none.
static inline bool reserve(Matrix &m, Pool &pool, int64_t panel_bytes) {
    m.bytes = m.panels() * panel_bytes;
    m.data = pool.take(m.bytes);
    m.bias = allocate<float>(m.panels() * LANES);
    m.scales = allocate<float>(m.panels() * LANES);
    return m.data && m.bias && m.scales;
}

template <typename T> static bool reserve(Matrix &m, Pool &pool, int in, int out) {
    m.in = in, m.out = out, m.type = TYPE<T>;
    if constexpr (WHOLE<T>)
        return reserve(m, pool, bytes8(m));
    else
        return reserve(m, pool, blocks(m) * BLOCK_BYTES<T>);
}

// For inputs i to i + LANES, the outputs of panel p; zeros outside the matrix.
static inline void block(const Matrix &m, int p, int i, const float *w, int64_t in_stride,
                         int64_t out_stride, Vector (&rows)[LANES]) {
    const int first = p * LANES, width = std::min(LANES, m.out - first);
    const int height = std::min(LANES, m.in - i);
    const bool across = in_stride == 1; // then a load takes an output's inputs
    const float *corner = w + i * in_stride + first * out_stride;
    for (int r = 0; r < LANES; r++) {
        const float *at = corner + r * (across ? out_stride : in_stride);
        const int n = across ? height : width, rows_left = across ? width : height;
        rows[r] = r >= rows_left ? Vector{} : n == LANES ? load(at) : load_some(at, n);
    }
    if (across) transpose(rows);
}

template <typename T>
static void pack_panel(Matrix &m, int p, const float *w, int64_t in_stride, int64_t out_stride) {
    constexpr int SPAN = LANES < BLOCK ? BLOCK : LANES;
    Vector rows[SPAN], most = {}, odd = {}; // odd: NaN, where an output has NaN or infinity
    const auto read = [&](int from) {
        for (int i = 0; i < SPAN; i += LANES)
            block(m, p, from + i, w, in_stride, out_stride, *(Vector(*)[LANES])(rows + i));
    };
    for (int i = 0; i < m.in; i += SPAN) {
        read(i);
        for (const Vector &row : rows) {
            most = larger(larger(row, -row), most);
            odd += row * 0.0f;
        }
    }
    Vector scale = odd;
    if constexpr (WHOLE<T>)
        scale += most / 127.0f;
    else
        scale += scale_for<T>(most);
    const Vector inverse = scale > 0.0f ? 1.0f / scale : Vector{};
    store(m.scales.get() + p * LANES, scale);
    for (int i = 0; i < m.in; i += SPAN) {
        read(i);
        for (Vector &row : rows)
            row *= inverse;
        for (int k = 0; k < std::min(SPAN, m.in - i); k += WHOLE<T> ? 4 : BLOCK)
            if constexpr (WHOLE<T>) {
                pack_four(m.data + place8(m, p, i + k, 0), rows + k);
            } else {
                typename Squeezed<T>::Words words[WORDS<T>];
                squeeze(rows + k, words);
                fold<T>(words, panel<T>(m, p) + (i + k) / BLOCK * BLOCK_BYTES<T>);
            }
    }
}

// See Weights.
template <typename T>
static bool pack(Matrix &m, Pool &pool, const float *w, int in, int out, int64_t in_stride,
                 int64_t out_stride, int n_threads) {
    if (!reserve<T>(m, pool, in, out)) return false;
#pragma omp parallel for num_threads(n_threads)
    for (int p = 0; p < m.panels(); p++)
        pack_panel<T>(m, p, w, in_stride, out_stride);
    return true;
}

// See Weights.
template <typename T> static void row(const Matrix &m, int o, float *to) {
    if constexpr (WHOLE<T>) {
        for (int i = 0; i < m.in; i++)
            to[i] = m.scales[o] * (m.data[place8(m, o / LANES, i, o % LANES)] - 128);
    } else {
        Vector columns[BLOCK];
        for (int i = 0; i < m.in; i++) {
            if (i % BLOCK == 0)
                expand<T>(panel<T>(m, o / LANES) + i / BLOCK * BLOCK_BYTES<T>, columns);
            to[i] = columns[i % BLOCK][o % LANES] * (LIFT * REST) * m.scales[o];
        }
    }
}

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

// rest: what the sums lack besides their scale. Apart from `product`, so that nothing here takes
// registers there.
template <int ROWS, int PANELS>
[[gnu::noinline]] static void finish(const Matrix &w, const Vector (&sum)[ROWS][PANELS],
                                     const Target &t, float rest) {
    for (int c = 0; c < PANELS; c++) {
        const int o = (t.p + c) * LANES, width = std::min(LANES, w.out - o);
        const Vector bias = load(w.bias.get() + o);
        const Vector scale = load(w.scales.get() + o);
        for (int r = 0; r < ROWS; r++) {
            float *at = t.y + r * t.stride + o;
            Vector z = scale * (rest * sum[r][c]);
            if (t.first) z += bias;
            if (!t.first || t.epilogue == ADD)
                z += width == LANES ? load(at) : load_some(at, width);
            if (t.last && t.epilogue == ACTIVATE) z = activate(t.activation, z);
            width == LANES ? store(at, z) : store_some(at, z, width);
        }
    }
}

// Inputs of type X that share a lane, and what multiplies them.
template <typename X> constexpr int SHARING = sizeof(float) / sizeof(X);
template <typename X> struct Multiplied;
template <> struct Multiplied<float> {
    using Column = Vector;
};
template <> struct Multiplied<bfloat16> {
    using Column = Ints;
};
template <typename X> using Column = typename Multiplied<X>::Column;

static inline Vector spread(const float *x) {
    return splat(*x);
}

// What squeezing took away, given back to either factor; x of bfloat16 comes with it.
static inline Vector lifted(Vector x) {
    return x * LIFT;
}
static inline Ints lifted(Ints x) {
    return x;
}

static inline Vector add_product(Vector sum, Vector x, Vector column) {
    return sum + x * column;
}

#if defined(FAST_PAIRS)
static inline Ints spread(const bfloat16 *x) {
    int32_t pair;
    std::memcpy(&pair, x, sizeof pair);
    return Ints{} + pair;
}

static inline Vector add_product(Vector sum, Ints x, Ints column) {
    return add_products(sum, x, column);
}
#endif

constexpr int STREAMS = 4; // panels at once, of few rows

// ROWS of x times PANELS of w, straight from memory.
template <typename T, int ROWS, int PANELS, typename X>
static void stream(const Matrix &w, const X *x, int64_t x_stride, const Target &target) {
    constexpr int STEPS = BLOCK / SHARING<X>;
    const bool distant = w.distant();
    Vector sum[ROWS][PANELS] = {};
    const auto add_block = [&](int64_t block, int inputs) {
        Column<X> xs[ROWS][STEPS] = {}, columns[STEPS];
        for (int r = 0; r < ROWS; r++)
            for (int i = 0; i < inputs; i += SHARING<X>)
                xs[r][i / SHARING<X>] = lifted(spread(x + r * x_stride + block * BLOCK + i));
        for (int c = 0; c < PANELS; c++) {
            const uint8_t *at = panel<T>(w, target.p + c) + block * BLOCK_BYTES<T>;
            if (distant) prefetch(at + AHEAD, BLOCK_BYTES<T>);
            expand<T>(at, columns);
            for (int r = 0; r < ROWS; r++)
                for (int i = 0; i < STEPS; i++)
                    sum[r][c] = add_product(sum[r][c], xs[r][i], columns[i]);
        }
    };
    const int whole = w.in / BLOCK;
    for (int64_t block = 0; block < whole; block++)
        add_block(block, BLOCK);
    if (w.in % BLOCK) add_block(whole, w.in % BLOCK);
    finish(w, sum, target, REST);
}

template <typename T, int PANELS, typename X>
static void few_rows(const Matrix &w, const X *x, int64_t x_stride, int n_rows, Target target) {
    for (int rows; n_rows > 0; n_rows -= rows) {
        rows = n_rows < 4 ? 1 : 4;
        (rows == 4 ? stream<T, 4, PANELS, X> : stream<T, 1, PANELS, X>)(w, x, x_stride, target);
        x += rows * x_stride, target.y += rows * target.stride;
    }
}

constexpr int MANY = REGISTERS == 32 ? 8 : 4; // rows at once
constexpr int INPUTS = 512; // at once, of many rows: so much of three panels stays in a cache

// A panel's next inputs, as X multiplies them.
template <typename X> using Tile = Column<X>[INPUTS / SHARING<X>];

// Inputs from .. from + n of a panel.
template <typename T, typename X>
static void fill(Tile<X> &tile, const Matrix &w, int p, int from, int n) {
    constexpr int STEPS = BLOCK / SHARING<X>;
    const uint8_t *at = panel<T>(w, p) + from / BLOCK * BLOCK_BYTES<T>;
    for (int i = 0; i < n; i += BLOCK, at += BLOCK_BYTES<T>) {
        Column<X> columns[STEPS];
        expand<T>(at, columns);
        for (int j = 0; j < STEPS; j++)
            tile[i / SHARING<X> + j] = lifted(columns[j]);
    }
}

// ROWS of x times the tiles of PANELS of w, n inputs long.
template <int ROWS, int PANELS, typename X>
static void product(const Matrix &w, const Tile<X> *tiles, const X *x, int64_t x_stride, int n,
                    const Target &target) {
    Vector sum[ROWS][PANELS] = {};
    for (int64_t i = 0; i < n; i += SHARING<X>) {
        Column<X> column[PANELS];
        for (int c = 0; c < PANELS; c++)
            column[c] = tiles[c][i / SHARING<X>];
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < PANELS; c++)
                sum[r][c] = add_product(sum[r][c], spread(x + r * x_stride + i), column[c]);
    }
    finish(w, sum, target, REST);
}

template <typename T, int PANELS, typename X>
static void many_rows(const Matrix &w, const X *x, int64_t x_stride, int n_rows, Target target) {
    alignas(64) Tile<X> tiles[PANELS];
    float *y = target.y;
    for (int from = 0; from < w.in; from += INPUTS) {
        const int n = std::min(INPUTS, w.in - from);
        for (int c = 0; c < PANELS; c++)
            fill<T, X>(tiles[c], w, target.p + c, from, n);
        target.first = from == 0, target.last = from + n == w.in;
        const int next = target.last ? 0 : from + n, next_p = target.p + target.last * PANELS;
        const int64_t bytes = std::min(INPUTS, w.in - next) / BLOCK * BLOCK_BYTES<T>;
        for (int r = 0, rows; r < n_rows; r += rows) {
            rows = r + MANY <= n_rows ? MANY : 1;
            target.y = y + r * target.stride;
            (rows == MANY
                 ? product<MANY, PANELS, X>
                 : product<1, PANELS, X>)(w, tiles, x + r * x_stride + from, x_stride, n, target);
            const Share share(bytes, r, n_rows, rows); // of what the next tiles are made of
            for (int c = 0; c < PANELS && w.distant(); c++)
                prefetch(panel<T>(w, next_p + c) + next / BLOCK * BLOCK_BYTES<T> + share.first,
                         share.last - share.first);
        }
    }
}

// The product of x as it is given here.
template <typename T, typename X>
static void multiply_as(const Product &product, const X *x, int64_t x_stride) {
    const Matrix &w = product.w;
    const int n_rows = product.n_rows;
    Target target = {product.y, product.y_stride, product.panels.first, true,
                     true,      product.epilogue, product.activation};
    const bool few = n_rows < MANY;
    const int wide = few ? STREAMS : 3;
    for (; target.p + wide <= product.panels.last; target.p += wide)
        (few ? few_rows<T, STREAMS, X> : many_rows<T, 3, X>)(w, x, x_stride, n_rows, target);
    for (; target.p < product.panels.last; target.p++)
        (few ? few_rows<T, 1, X> : many_rows<T, 1, X>)(w, x, x_stride, n_rows, target);
}

// Rows of x in bfloat16, lifted.
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
            values[row * width + i] = to_bfloat16(x[i] * LIFT);
        values[row * width + n] = 0; // the other one of a last pair
    }
};
