// panels.h: weights packed once, for streaming.
//
// A panel is LANES columns of W, one run of memory, in which a step along `in` is one vector; panel
// lies behind panel. Kept as float32 or bfloat16 in fewer bits (squeeze.h), or as int8, with a
// scale for each output; int4 is packed by its own rules (int4.h).
#pragma once

#include "engine/squeeze.h"
#include "engine/weights.h"

#include <algorithm>
#include <cmath>

static inline int blocks(const Matrix &m) { // of a panel; zeros behind the inputs
    return (m.in + BLOCK - 1) / BLOCK;
}
template <typename T> static inline uint8_t *panel(const Matrix &m, int p) {
    return m.data + (int64_t)p * blocks(m) * BLOCK_BYTES<T>;
}

// int8, with ADDED: (panels, in / 4, LANES, 4), `in` padded to whole fours.
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
        bytes |= (((Bits)shifted + ADDED) & 0xff) << 8 * k;
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
            to[i] = m.scales[o] * (int8_t)(m.data[place8(m, o / LANES, i, o % LANES)] - ADDED);
    } else {
        Vector columns[BLOCK];
        for (int i = 0; i < m.in; i++) {
            if (i % BLOCK == 0)
                expand<T>(panel<T>(m, o / LANES) + i / BLOCK * BLOCK_BYTES<T>, columns);
            to[i] = columns[i % BLOCK][o % LANES] * (LIFT * REST) * m.scales[o];
        }
    }
}
