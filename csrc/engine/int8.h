// int8.h: y = x W + b in whole numbers. W has a scale for each output, packed once (matrix.h); x is
// rounded to int8 as it comes, with a scale for each row and GROUP of its inputs, so that one large
// value costs the precision of its own group alone (as in LLM.int8, Dettmers et al. 2022, and
// ggml's q8_0). The sums of a group are exact in int32; float32 adds up the groups.
//
// Four inputs of LANES outputs are a vector of bytes, which one instruction (VNNI) multiplies and
// sums: four times the multiplications of float32's. It wants unsigned times signed, so W is stored
// with 128 added, and a group's sum starts at -128 times the sum of its x.
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
        float most = 0, odd = 0;
#pragma omp simd reduction(max : most) reduction(+ : odd)
        for (int i = 0; i < n; i++) {
            most = std::max(most, std::fabs(x[i]));
            odd += x[i] * 0; // NaN, where x is NaN or infinite
        }
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
        offsets[row * groups() + g] = -128 * sum;
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

// Bytes of each panel: a group of the widest vectors. One or two rows go as fast as memory, which
// serves them faster with a shorter way ahead.
constexpr int AHEAD8 = 16 * GROUP;

// PANELS at once from panel p on, while there are so many, and rows by LEAST to MOST. These go
// through a group of the inputs one after the other, and each asks for some of what comes next.
template <int LEAST, int MOST, int PANELS>
static void panels8(const Product &product, const Quantised &x, int &p) {
    const Matrix &w = product.w;
    const int n_bands = (product.n_rows + TALL - 1) / TALL;
    const bool distant = w.distant();
    const Target target = {product.y, product.y_stride, p, product.epilogue, product.activation};
    alignas(64) Vector sums[TALL][PANELS];
    for (; p + PANELS <= product.panels.last; p += PANELS)
        for (int b = 0; b < n_bands; b++) {
            const Share band(product.n_rows, b, n_bands);
            const int height = band.last - band.first, parts = (height + MOST - 1) / MOST;
            std::memset(sums, 0, height * sizeof sums[0]);
            for (int g = 0; g * GROUP < w.in; g++)
                for (int part = 0; part < parts; part++) {
                    const Share rows(height, part, parts);
                    const int row = band.first + rows.first;
                    int others = part; // until it is this part's turn
                    const auto meanwhile = [&](int64_t i) {
                        if (!distant || (MOST > 2 && others-- > 0)) return;
                        others = parts - 1;
                        for (int c = 0; c < PANELS; c++) {
                            const uint8_t *panel = panel8(w, p + c);
                            const int64_t at = i * LANES;
                            prefetch(MOST <= 2 ? panel + at + AHEAD
                                               : ahead<PANELS>(panel, at + AHEAD8, bytes8(w)),
                                     VECTOR_BYTES);
                        }
                    };
                    with_constant<LEAST, MOST>(rows.last - rows.first, [&](auto n) {
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
    if (product.n_rows == 1)
        panels8<1, 1, 8>(product, x, p);
    else if (product.n_rows == 2)
        panels8<2, 2, 4>(product, x, p);
    else
        panels8<2, MANY, 3>(product, x, p);
    panels8<1, MANY, 1>(product, x, p);
}
