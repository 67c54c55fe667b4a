// int8.h: y = x W + b in whole numbers. W has a scale for each output, packed once (panels.h); x is
// rounded to int8 as it comes, with a scale for each row and GROUP of its inputs, so that one large
// value costs the precision of its own group alone (as in LLM.int8, Dettmers et al. 2022, and
// ggml's q8_0). The sums of a group are exact in int32; float32 adds up the groups.
//
// Four inputs of LANES outputs are a vector of bytes, which one instruction (VNNI, NEON's SDOT)
// multiplies and sums: four times the multiplications of float32's. Where it wants unsigned times
// signed, W is stored with 128 ADDED, and a group's sum starts at -128 times the sum of its x.
#pragma once

#include "engine/matrix.h"

constexpr int GROUP = 256; // inputs; a multiple of 4

// Rows of x, rounded.
struct Quantised {
    int64_t width = 0;       // bytes a row: inputs, to whole groups
    Memory<int8_t> values;   // (rows, width)
    Memory<float> scales;    // (rows, width / GROUP)
    Memory<int32_t> offsets; // of the same shape: where a group's sum starts
    int groups() const { return width / GROUP; }

    bool reserve(int rows, int widest) {
        width = (widest + GROUP - 1) / GROUP * GROUP;
        values = allocate<int8_t>(rows * width);
        scales = allocate<float>(rows * groups());
        offsets = allocate<int32_t>(rows * groups());
        return values && scales && offsets;
    }

    // x: (n,). What is not finite stays so: it makes the scale NaN.
    void keep(int row, const float *x, int n) {
        for (int g = 0, from = 0; from < n; g++, from += GROUP)
            keep_group(row, g, x + from, std::min(GROUP, n - from));
    }

    // x less what its row stands for: (n,). `to` may be x.
    void rest(int row, const float *x, int n, float *to) const {
        for (int i = 0; i < n; i++)
            to[i] = x[i] - scales[row * groups() + i / GROUP] * values[row * width + i];
    }

  private:
    void keep_group(int row, int g, const float *x, int n) {
        int8_t *to = values.get() + row * width + g * GROUP;
        Vector sizes = {}, odds = {};
        for (int i = 0; i < n; i += LANES) {
            const Vector some = n - i < LANES ? load_some(x + i, n - i) : load(x + i);
            sizes = larger(larger(some, -some), sizes);
            odds += some * 0.0f;
        }
        const float most = largest_of<LANES>(sizes)[0];
        float odd = 0; // NaN, where x is NaN or infinite
        for (int lane = 0; lane < LANES; lane++)
            odd += odds[lane];
        const float inverse = most > 0 && odd == 0 ? 127 / most : 0;
        int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int i = 0; i < n; i++) {
            const float shifted = x[i] * inverse + ROUNDS;
            int32_t bits;
            std::memcpy(&bits, &shifted, sizeof bits);
            to[i] = (int8_t)bits;
            sum += (int8_t)bits;
        }
        std::memset(to + n, 0, (n + 3) / 4 * 4 - n);
        scales[row * groups() + g] = most / 127 + odd;
        offsets[row * groups() + g] = -ADDED * sum;
    }
};

// Adds to sums what x keeps, ROWS from `row` on, times PANELS from panel p on, for group g of the
// inputs; calls meanwhile(i) behind each four from input i on.
template <int ROWS, int PANELS, typename Meanwhile>
static void product8(const Matrix &w, int p, const Quantised &x, int64_t row, int g,
                     Vector (*sums)[PANELS], const Meanwhile &meanwhile) {
    const uint8_t *panels = panel8(w, p);
    const int64_t stride = bytes8(w), kept = row * x.groups() + g;
    const int8_t *values = x.values.get() + row * x.width;
    Ints part[ROWS][PANELS];
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < PANELS; c++)
            part[r][c] = Ints{} + x.offsets[kept + r * x.groups()];
    const int64_t to = std::min((g + 1) * GROUP, w.in);
    for (int64_t i = g * GROUP; i < to; i += 4) {
        Ints column[PANELS];
        for (int c = 0; c < PANELS; c++)
            column[c] = load_as<Ints>(panels + c * stride + i * LANES);
        for (int r = 0; r < ROWS; r++) {
            const Ints four = repeat_four(values + r * x.width + i);
            for (int c = 0; c < PANELS; c++)
                part[r][c] = add_products(part[r][c], column[c], four);
        }
        meanwhile(i);
    }
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < PANELS; c++)
            sums[r][c] +=
                x.scales[kept + r * x.groups()] * __builtin_convertvector(part[r][c], Vector);
}

// The same for FEW rows, a panel and all inputs, straight from memory as in matrix.h. Sums of whole
// numbers may be taken apart, so that none waits for itself.
template <int ROWS>
static void stream8(const Matrix &w, const Quantised &x, int64_t row, const Target &target) {
    constexpr int CHAINS = FEW / ROWS;
    const uint8_t *at = panel8(w, target.p);
    const bool distant = w.distant();
    Vector sum[ROWS][1] = {};
    for (int g = 0; g * GROUP < w.in; g++) {
        const int8_t *values = x.values.get() + row * x.width + g * GROUP;
        const int64_t kept = row * x.groups() + g;
        Ints part[ROWS][CHAINS] = {};
        const auto add_four = [&](int i, int chain) __attribute__((always_inline)) {
            if (distant) prefetch<1>(at + AHEAD, VECTOR_BYTES);
            const Ints column = load_as<Ints>(at);
            for (int r = 0; r < ROWS; r++)
                part[r][chain] =
                    add_products(part[r][chain], column, repeat_four(values + r * x.width + i));
            at += VECTOR_BYTES;
        };
        const int n = std::min(GROUP, w.in - g * GROUP);
        int i = 0;
        for (; i + 4 * CHAINS <= n; i += 4 * CHAINS)
#pragma GCC unroll 8
            for (int chain = 0; chain < CHAINS; chain++)
                add_four(i + 4 * chain, chain);
        for (; i < n; i += 4)
            add_four(i, 0);
        for (int r = 0; r < ROWS; r++) {
            Ints whole = Ints{} + x.offsets[kept + r * x.groups()];
            for (const Ints &chain : part[r])
                whole += chain;
            sum[r][0] += x.scales[kept + r * x.groups()] * __builtin_convertvector(whole, Vector);
        }
    }
    finish<ROWS, 1>(w, sum, target, 1);
}

constexpr int AHEAD8 = 16 * GROUP; // bytes of each panel: a group of the widest vectors

// PANELS at once from panel p on, while there are so many, and of many rows MANY. These go through
// a group of the inputs one after the other, and each asks for some of what comes next.
template <int PANELS> static void panels8(const Product &product, const Quantised &x, int &p) {
    const Matrix &w = product.w;
    const int n_bands = (product.n_rows + TALL - 1) / TALL;
    const bool distant = w.distant();
    const Target target = {product.y, product.y_stride, p, product.epilogue, product.activation};
    alignas(64) Vector sums[TALL][PANELS];
    for (; p + PANELS <= product.panels.last; p += PANELS)
        for (int b = 0; b < n_bands; b++) {
            const Share band(product.n_rows, b, n_bands);
            const int height = band.last - band.first, parts = (height + MANY - 1) / MANY;
            std::memset(sums, 0, height * sizeof sums[0]);
            for (int g = 0; g * GROUP < w.in; g++)
                for (int part = 0; part < parts; part++) {
                    const Share rows(height, part, parts);
                    const int row = band.first + rows.first;
                    int others = part; // until it is this part's turn
                    const auto meanwhile = [&](int64_t i) {
                        if (!distant || others-- > 0) return;
                        others = parts - 1;
                        for (int c = 0; c < PANELS; c++)
                            prefetch(ahead<PANELS>(panel8(w, p + c), i * LANES + AHEAD8, bytes8(w)),
                                     VECTOR_BYTES);
                    };
                    with_constant<MANY / 2, MANY>(rows.last - rows.first, [&](auto n) {
                        product8<n.value, PANELS>(w, p, x, product.row + row, g, sums + rows.first,
                                                  meanwhile);
                        if ((g + 1) * GROUP >= w.in)
                            finish<n.value, PANELS>(w, sums + rows.first, target.at(row, p), 1);
                    });
                }
        }
}

// The product with what x keeps.
static inline void multiply8(const Product &product, const Quantised &x) {
    int p = product.panels.first;
    if (product.n_rows <= FEW) {
        const Target target = {product.y, product.y_stride, p, product.epilogue,
                               product.activation};
        with_constant<1, FEW>(product.n_rows, [&](auto n) {
            for (; p < product.panels.last; p++)
                stream8<n.value>(product.w, x, product.row, target.at(0, p));
        });
        return;
    }
    panels8<3>(product, x, p);
    panels8<1>(product, x, p);
}
