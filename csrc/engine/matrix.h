// matrix.h: y = x W + b with packed weights (panels.h), for few rows and for many.
//
// Up to eight rows, whose product reading W bounds, go through one panel after the other, as it
// lies in memory: one stream, which memory serves faster than several. More rows keep ROWS x PANELS
// accumulators in registers as `simd` does, 8 x 3, and multiply a tile of three panels' next inputs
// that was taken apart once for all of them; between its multiplications the next tile is taken
// apart, and memory is asked for the one behind it. So from some 16 rows on the arithmetic bounds a
// product, and below, reading W once.
//
// A sum takes its inputs one after the other, whatever the number of rows: a row's product is the
// same bits in any company.
//
// x is kept for a product as float32, or as bfloat16 where the CPU multiplies two of those to a
// lane fast; sums are float32. Products with int8 and int4 are another matter, see int8.h and
// int4.h.
#pragma once

#include "engine/panels.h"

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

// Rows of x as products take them, with the factor that squeezing took from the weights, and zeros
// to whole blocks.
template <typename X> struct Kept {
    int64_t width = 0;
    Memory<X> values; // (rows, width)

    const X *row(int64_t row) const { return values.get() + row * width; }

    bool reserve(int rows, int widest) {
        width = (widest + BLOCK - 1) / BLOCK * BLOCK + LANES; // no rows 4 KB apart
        values = allocate<X>(rows * width);
        return !!values;
    }

    void keep(int row, const float *x, int n) {
        X *to = values.get() + row * width;
        for (int i = 0; i < n; i++)
            if constexpr (std::is_same_v<X, float>)
                to[i] = x[i] * LIFT;
            else
                to[i] = to_bfloat16(x[i] * LIFT);
        std::fill_n(to + n, (BLOCK - n % BLOCK) % BLOCK, X{});
    }
};

constexpr int FEW = REGISTERS == 32 ? 8 : 4; // rows whose product reading W bounds
constexpr int AHEAD = 6144;                  // bytes, into L1: further than memory takes to answer

// Panels at once, of few rows: one, unless its sums would wait for themselves longer than for
// memory. An addition takes four cycles, and in those memory may give a core 48 bytes.
template <typename T, int ROWS, typename X>
constexpr int STREAMS = [] {
    constexpr int bytes = ROWS * BLOCK_BYTES<T> * SHARING<X> / BLOCK; // of one step of one panel
    return (48 + bytes - 1) / bytes;
}();

// ROWS of x times PANELS of w, straight from memory.
template <typename T, int ROWS, int PANELS, typename X>
static void stream(const Matrix &w, const X *x, int64_t x_stride, const Target &target) {
    const bool distant = w.distant();
    Vector sum[ROWS][PANELS] = {};
    for (int64_t block = 0; block < blocks(w); block++, x += BLOCK)
        for (int c = 0; c < PANELS; c++) {
            const uint8_t *at = panel<T>(w, target.p + c) + block * BLOCK_BYTES<T>;
            Column<X> columns[BLOCK / SHARING<X>];
            if (distant) prefetch<1>(at + AHEAD, BLOCK_BYTES<T>);
            expand<T>(at, columns);
            for (int i = 0; i < BLOCK; i += SHARING<X>)
                for (int r = 0; r < ROWS; r++)
                    sum[r][c] = add_product(sum[r][c], spread(x + r * x_stride + i),
                                            columns[i / SHARING<X>]);
        }
    finish<ROWS, PANELS>(w, sum, target, REST);
}

constexpr int MANY = REGISTERS == 32 ? 8 : 4; // rows at once, and at least half as many
constexpr int WIDE = 3;                       // panels at once, of many rows
constexpr int TALL = 128;                     // rows of a band, whose sums are kept meanwhile
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
                tile[column + i][c] = columns[i];
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
        for (const int64_t to = i + BLOCK; i < to; i += SHARING<X>) {
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
    const int in = blocks(w) * BLOCK;
    const int n_bands = (n_rows + TALL - 1) / TALL, n_tiles = (in + INPUTS<X> - 1) / INPUTS<X>;
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
        const int input = step % n_tiles * INPUTS<X>, n = std::min(INPUTS<X>, in - input);
        if (input == 0) std::memset(sums, 0, height * sizeof sums[0]);
        auto next = filling(step + 1);
        const int work = step + 1 < n_steps ? next.left : 0;
        const int pieces = n / BLOCK * parts;
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
                if (input + n == in)
                    finish<n_rows.value, PANELS>(w, sums + rows.first,
                                                 target.at(row, panel_of(step)), REST);
            });
        }
    }
}

template <typename T, typename X>
static void multiply(const Product &product, const Kept<X> &kept) {
    const Matrix &w = product.w;
    const X *x = kept.row(product.row);
    const int n_rows = product.n_rows, last = product.panels.last;
    int p = product.panels.first;
    const Target target = {product.y, product.y_stride, p, product.epilogue, product.activation};
    if (n_rows <= FEW) {
        with_constant<1, FEW>(n_rows, [&](auto n_rows) {
            constexpr int ROWS = n_rows.value, PANELS = STREAMS<T, ROWS, X>;
            for (; p + PANELS <= last; p += PANELS)
                stream<T, ROWS, PANELS>(w, x, kept.width, target.at(0, p));
            for (; p < last; p++)
                stream<T, ROWS, 1>(w, x, kept.width, target.at(0, p));
        });
        return;
    }
    const int wide = p + (last - p) / WIDE * WIDE;
    if (p < wide) many_rows<T, WIDE>(w, x, kept.width, n_rows, target, p, wide);
    if (wide < last) many_rows<T, 1>(w, x, kept.width, n_rows, target, wide, last);
}

// Weights of type T, times activations of type X.
template <typename T, typename X> class Floats : public Weights {
    Kept<X> kept_;

    bool pack(Matrix &m, Pool &pool, const float *w, int in, int out, int64_t in_stride,
              int64_t out_stride, int n_threads) const override {
        return ::pack<T>(m, pool, w, in, out, in_stride, out_stride, n_threads);
    }
    void row(const Matrix &m, int o, float *to) const override { ::row<T>(m, o, to); }
    bool reserve(int rows, int widest) override { return kept_.reserve(rows, widest); }
    void keep(int row, const float *x, int n) override { kept_.keep(row, x, n); }
    void round(float *x, int n) const override {
        if constexpr (std::is_same_v<X, bfloat16>)
            for (int i = 0; i < n; i++)
                x[i] = to_float(to_bfloat16(x[i]));
    }
    void multiply(const Product &product) const override { ::multiply<T>(product, kept_); }
};
