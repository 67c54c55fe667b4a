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

// Of a product with what x keeps, ROWS rows and PANELS panels.
template <int ROWS, int PANELS>
static void product8(const Product &product, const Quantised &x, int first_row, int p) {
    const Matrix &w = product.w;
    const int row = product.row + first_row;
    const uint8_t *panel[PANELS];
    for (int c = 0; c < PANELS; c++)
        panel[c] = panel8(w, p + c);
    const int8_t *values = x.values.get() + row * x.width;
    const bool distant = w.distant();
    Vector sum[ROWS][PANELS] = {};
    for (int g = 0; g * GROUP < w.in; g++) {
        Ints part[ROWS][PANELS];
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < PANELS; c++)
                part[r][c] = Ints{} + x.offsets[(row + r) * x.groups() + g];
        const int64_t to = std::min((g + 1) * GROUP, w.in);
        for (int64_t i = g * GROUP; i < to; i += 4) {
            Ints column[PANELS];
            for (int c = 0; c < PANELS; c++) {
                std::memcpy(&column[c], panel[c] + i * LANES, sizeof column[c]);
                if (ROWS <= 2 && distant) prefetch(panel[c] + i * LANES + AHEAD, VECTOR_BYTES);
            }
            for (int r = 0; r < ROWS; r++) {
                int32_t four;
                std::memcpy(&four, values + r * x.width + i, sizeof four);
                for (int c = 0; c < PANELS; c++)
                    part[r][c] = add_products(part[r][c], column[c], Ints{} + four);
            }
        }
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < PANELS; c++)
                sum[r][c] += x.scales[(row + r) * x.groups() + g] *
                             __builtin_convertvector(part[r][c], Vector);
    }
    float *y = product.y + first_row * product.y_stride;
    finish(w, sum, {y, product.y_stride, p, true, true, product.epilogue, product.activation}, 1);
}

template <int PANELS> static void panels8(const Product &product, const Quantised &x, int p) {
    int r = 0;
    for (; r + MANY <= product.n_rows; r += MANY)
        product8<MANY, PANELS>(product, x, r, p);
    for (; r + 2 <= product.n_rows; r += 2)
        product8<2, PANELS>(product, x, r, p);
    for (; r < product.n_rows; r++)
        product8<1, PANELS>(product, x, r, p);
}

// The product with what x keeps.
static inline void multiply8(const Product &product, const Quantised &x) {
    const int last = product.panels.last;
    int p = product.panels.first;
    if (product.n_rows == 1)
        for (; p + 8 <= last; p += 8)
            product8<1, 8>(product, x, 0, p);
    if (product.n_rows <= 2)
        for (; p + 4 <= last; p += 4)
            panels8<4>(product, x, p);
    for (; p + 3 <= last; p += 3)
        panels8<3>(product, x, p);
    for (; p < last; p++)
        panels8<1>(product, x, p);
}
