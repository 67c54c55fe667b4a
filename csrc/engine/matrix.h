// matrix.h: weights packed once for streaming, and y = x W + b for few rows and for many.
//
// A panel is LANES columns of W, one run of memory, in which a step along `in` is one vector. Up to
// four rows, whose product reading W bounds, go through four panels at once: distant streams, which
// memory serves faster than one. More rows keep ROWS x PANELS accumulators in registers as `simd`
// does, 8 x 3, and multiply a tile of three panels' next inputs that was taken apart once for all
// of them; between its multiplications the next tile is taken apart, and memory is asked for the
// one behind it. So from some 16 rows on the arithmetic bounds a product, and below, reading W
// once.
//
// A sum takes its inputs one after the other, whatever the number of rows: a row's product is the
// same bits in any company.
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
    m.data = pool.take<uint8_t>(m.bytes);
    m.scales = pool.take<float>(m.panels() * LANES);
    m.bias = allocate<float>(m.panels() * LANES);
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
    store(m.scales + p * LANES, scale);
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
    if (pool.filled()) return true;
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

// Where a product's sums go: y (rows, out) from panel p on.
struct Target {
    float *y;
    int64_t stride;
    int p;
    Epilogue epilogue;
    Activation activation;

    Target at(int row, int panel) const {
        return {y + row * stride, stride, panel, epilogue, activation};
    }
};

// rest: what the sums lack besides their scale. Apart from `product`, so that nothing here takes
// registers there.
template <int ROWS, int PANELS>
[[gnu::noinline]] static void finish(const Matrix &w, const Vector (*sum)[PANELS], const Target &t,
                                     float rest) {
    for (int c = 0; c < PANELS; c++) {
        const int o = (t.p + c) * LANES, width = std::min(LANES, w.out - o);
        const Vector bias = load(w.bias.get() + o);
        const Vector scale = load(w.scales + o);
        for (int r = 0; r < ROWS; r++) {
            float *at = t.y + r * t.stride + o;
            Vector z = scale * (rest * sum[r][c]) + bias;
            if (t.epilogue == ADD) z += width == LANES ? load(at) : load_some(at, width);
            if (t.epilogue == ACTIVATE) z = activate(t.activation, z);
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
    return repeat_four(x);
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
    finish<ROWS, PANELS>(w, sum, target, REST);
}

constexpr int FEW = 4;                        // rows whose product reading W bounds
constexpr int MANY = REGISTERS == 32 ? 8 : 4; // rows at once, and at least half as many
constexpr int WIDE = 3;                       // panels at once, of many rows
constexpr int TALL = 64;                      // rows of a band, whose sums are kept meanwhile
constexpr int COLUMNS = 64;                   // of a tile: two of three panels stay in L1
constexpr int TILES_AHEAD = 2048;             // bytes of each panel

// What is read `offset` bytes behind the start of a panel: of itself, or, behind its end, of the
// one that is read after it, PANELS further on.
template <int PANELS>
static inline const uint8_t *ahead(const uint8_t *panel, int64_t offset, int64_t bytes) {
    return panel + offset + (offset < bytes ? 0 : (PANELS - 1) * bytes);
}

// The next inputs of PANELS, as X multiplies them.
template <int PANELS, typename X> using Tile = Column<X>[COLUMNS][PANELS];
template <typename X> constexpr int INPUTS = COLUMNS * SHARING<X>;

// Takes apart the tile from panel p and input `from` on, block by block.
template <typename T, int PANELS, typename X> struct Filling {
    Tile<PANELS, X> &tile;
    const uint8_t *first; // of the first panel
    int64_t at, bytes;    // of a panel
    bool distant;
    int left, column = 0; // left: blocks

    Filling(Tile<PANELS, X> &to, const Matrix &w, int p, int from)
        : tile(to), first(panel<T>(w, p)), at(from / BLOCK * BLOCK_BYTES<T>),
          bytes(blocks(w) * BLOCK_BYTES<T>), distant(w.distant()),
          left((std::min(INPUTS<X>, w.in - from) + BLOCK - 1) / BLOCK) {}

    [[gnu::always_inline]] void block() {
        constexpr int STEPS = BLOCK / SHARING<X>;
        for (int c = 0; c < PANELS; c++) {
            const uint8_t *panel = first + c * bytes;
            if (distant) prefetch(ahead<PANELS>(panel, at + TILES_AHEAD, bytes), BLOCK_BYTES<T>);
            Column<X> columns[STEPS];
            expand<T>(panel + at, columns);
            for (int i = 0; i < STEPS; i++)
                tile[column + i][c] = lifted(columns[i]);
        }
        at += BLOCK_BYTES<T>, column += STEPS, left--;
    }
};

// Adds to sums ROWS of x times a tile n inputs long; calls `meanwhile` after each block of it.
template <int ROWS, int PANELS, typename X, typename Meanwhile>
static void product(const Tile<PANELS, X> &tile, const X *x, int64_t x_stride, int n,
                    Vector (*sums)[PANELS], const Meanwhile &meanwhile) {
    Vector sum[ROWS][PANELS];
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < PANELS; c++)
            sum[r][c] = sums[r][c];
    for (int64_t i = 0; i < n;) {
        for (const int64_t to = std::min<int64_t>(i + BLOCK, n); i < to; i += SHARING<X>) {
            Column<X> column[PANELS];
            for (int c = 0; c < PANELS; c++)
                column[c] = tile[i / SHARING<X>][c];
            for (int r = 0; r < ROWS; r++)
                for (int c = 0; c < PANELS; c++)
                    sum[r][c] = add_product(sum[r][c], spread(x + r * x_stride + i), column[c]);
        }
        meanwhile();
    }
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < PANELS; c++)
            sums[r][c] = sum[r][c];
}

// Calls f with n, which is from LEAST to MOST, as a constant.
template <int LEAST, int MOST, typename F> static void with_constant(int n, const F &f) {
    if constexpr (LEAST < MOST)
        if (n > LEAST) return with_constant<LEAST + 1, MOST>(n, f);
    f(std::integral_constant<int, LEAST>());
}

// Panels from .. to, a whole number of PANELS. While a tile is multiplied by all rows of a band,
// the next one is taken apart, and what comes behind it is on its way from memory.
template <typename T, int PANELS, typename X>
static void many_rows(const Matrix &w, const X *x, int64_t x_stride, int n_rows,
                      const Target &target, int from, int to) {
    alignas(64) Tile<PANELS, X> tiles[2];
    alignas(64) Vector sums[TALL][PANELS];
    const int n_bands = (n_rows + TALL - 1) / TALL, n_tiles = (w.in + INPUTS<X> - 1) / INPUTS<X>;
    const int n_steps = (to - from) / PANELS * n_bands * n_tiles;
    const auto panel_of = [=](int step) { return from + step / (n_bands * n_tiles) * PANELS; };
    const auto filling = [&](int step) {
        return Filling<T, PANELS, X>(tiles[step % 2], w, panel_of(step),
                                     step % n_tiles * INPUTS<X>);
    };
    for (auto first = filling(0); first.left > 0;)
        first.block();
    for (int step = 0; step < n_steps; step++) {
        const Share band(n_rows, step / n_tiles % n_bands, n_bands);
        const int height = band.last - band.first, parts = (height + MANY - 1) / MANY;
        const int input = step % n_tiles * INPUTS<X>, n = std::min(INPUTS<X>, w.in - input);
        if (input == 0) std::memset(sums, 0, height * sizeof sums[0]);
        auto next = filling(step + 1);
        const int work = step + 1 < n_steps ? next.left : 0;
        const int pieces = (n + BLOCK - 1) / BLOCK * parts;
        int due = 0; // of the next tile's blocks, in pieces of this one
        const auto meanwhile = [&] {
            for (due += work; due >= pieces; due -= pieces)
                next.block();
        };
        for (int part = 0; part < parts; part++) {
            const Share rows(height, part, parts);
            const int row = band.first + rows.first;
            with_constant<MANY / 2, MANY>(rows.last - rows.first, [&](auto n_rows) {
                product<n_rows.value, PANELS, X>(tiles[step % 2], x + row * x_stride + input,
                                                 x_stride, n, sums + rows.first, meanwhile);
                if (input + n == w.in)
                    finish<n_rows.value, PANELS>(w, sums + rows.first,
                                                 target.at(row, panel_of(step)), REST);
            });
        }
    }
}

// The product of x as it is given here.
template <typename T, typename X>
static void multiply_as(const Product &product, const X *x, int64_t x_stride) {
    const Matrix &w = product.w;
    const int n_rows = product.n_rows, last = product.panels.last;
    int p = product.panels.first;
    const Target target = {product.y, product.y_stride, p, product.epilogue, product.activation};
    if (n_rows <= FEW) {
        with_constant<1, FEW>(n_rows, [&](auto n_rows) {
            for (; p + STREAMS <= last; p += STREAMS)
                stream<T, n_rows.value, STREAMS, X>(w, x, x_stride, target.at(0, p));
            for (; p < last; p++)
                stream<T, n_rows.value, 1, X>(w, x, x_stride, target.at(0, p));
        });
        return;
    }
    const int wide = p + (last - p) / WIDE * WIDE;
    if (p < wide) many_rows<T, WIDE, X>(w, x, x_stride, n_rows, target, p, wide);
    if (wide < last) many_rows<T, 1, X>(w, x, x_stride, n_rows, target, wide, last);
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
