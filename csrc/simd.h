// simd.h: a thin layer over the compiler's vector extensions, for kernels that want the whole CPU.
//
// One source, several instruction sets: -march decides how wide a Vector is and how many registers
// there are. AVX-512 and AVX2 are tested, so are the 16 bytes that every x86-64 has; NEON compiles
// from the same lines and is untested.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64, REGISTERS = 32;
#elif defined(__AVX2__)
constexpr int VECTOR_BYTES = 32, REGISTERS = 16;
#elif defined(__ARM_NEON)
constexpr int VECTOR_BYTES = 16, REGISTERS = 32;
#else
constexpr int VECTOR_BYTES = 16, REGISTERS = 16;
#endif

constexpr int LANES = VECTOR_BYTES / sizeof(float);
// aligned(4): a load or a store through a pointer to one needs no alignment; may_alias: it may
// point into floats.
typedef float Vector __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(VECTOR_BYTES / 2), aligned(2), may_alias));
typedef int16_t Shorts __attribute__((vector_size(VECTOR_BYTES), aligned(2), may_alias));
typedef uint16_t bfloat16; // the upper half of a float

// 1.5 * 2^23: a small number added to it is rounded, and stands in the sum's lowest bits.
constexpr float ROUNDS = 0x1.8p23f;

static inline Vector splat(float x) {
    return x - Vector{}; // a sum would make 0 of -0, at the price of an addition
}

static inline Vector load(const float *at) {
    return *(const Vector *)at;
}

static inline Vector load(const bfloat16 *at) {
#if defined(__AVX512F__) // gcc 12 takes __builtin_convertvector of short vectors apart
    const __m512i wide =
        _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256((const __m256i *)at));
    return (Vector)_mm512_maskz_slli_epi32(0xffff, wide, 16);
#elif defined(__AVX2__)
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)at));
    return (Vector)_mm256_slli_epi32(wide, 16);
#else
    return (Vector)(__builtin_convertvector(*(const Halves *)at, Bits) << 16);
#endif
}

static inline float to_float(float x) {
    return x;
}

static inline float to_float(bfloat16 x) {
    const uint32_t bits = (uint32_t)x << 16;
    float y;
    std::memcpy(&y, &bits, sizeof y);
    return y;
}

static inline bfloat16 to_bfloat16(float x) { // to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return x != x ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// The first n < LANES of them; the other lanes are 0, and what lies behind is not read.
template <typename T> static inline Vector load_some(const T *at, int n) {
    float some[LANES] = {};
    for (int i = 0; i < n; i++)
        some[i] = to_float(at[i]);
    return load(some);
}

static inline void store(float *at, Vector x) {
    *(Vector *)at = x;
}

static inline void store_some(float *at, Vector x, int n) {
    std::memcpy(at, &x, n * sizeof(float));
}

// Into L2: for L1, what is on the way from memory would be too much. always_inline: gcc 12 takes a
// function that only prefetches for one without effect, and drops calls.
[[gnu::always_inline]] static inline void prefetch(const uint8_t *at, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(at + i, 0, 2);
}

// b where one of them is NaN.
static inline Vector larger(Vector a, Vector b) {
#if defined(__AVX512F__) // maskz: gcc 12 warns of what the plain intrinsics leave undefined
    return (Vector)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
#else
    return a > b ? a : b;
#endif
}

// The lanes moved down by n, those that fall out at the end again.
static inline Vector rotate(Vector x, int n) {
#if defined(__clang__) // has no __builtin_shuffle; makes shuffles of this
    Vector y;
    for (int i = 0; i < LANES; i++)
        y[i] = x[(i + n) % LANES];
    return y;
#else
    Ints from = {}; // folded at compile time
    for (int i = 0; i < LANES; i++)
        from[i] = (i + n) % LANES;
    return __builtin_shuffle(x, from);
#endif
}

static inline float sum(Vector x) {
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
        x += rotate(x, half);
    return x[0];
}

static inline float largest(Vector x) {
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
        x = larger(x, rotate(x, half));
    return x[0];
}

// 2^x for each lane, to 3 units in the last place; below 2^-125 it stays there, above 2^127 it is
// large or infinite. x = n + r with n whole: 2^r is a polynomial (minimax for the relative error,
// 1.1e-7, of those that are 1 at 0, so that a rescale by 2^0 changes nothing), n goes into the
// exponent.
static inline Vector exp2(Vector x) {
    x = larger(splat(-125.0f), x); // no subnormal numbers: they are slow
#if defined(__AVX512F__)
    const Vector n = (Vector)_mm512_maskz_roundscale_ps(0xffff, (__m512)x, 0), r = x - n;
#else
    x = x > 127.0f ? splat(127.0f) : x;
    const Vector shifted = x + ROUNDS, n = shifted - ROUNDS, r = x - n;
#endif
    Vector p = splat(1.3264727e-3f);
    p = p * r + 9.671513e-3f;
    p = p * r + 5.5507337e-2f;
    p = p * r + 0.24022242f;
    p = p * r + 0.69314698f;
    p = p * r + 1.0f;
#if defined(__AVX512F__)
    return (Vector)_mm512_maskz_scalef_ps(0xffff, (__m512)p, (__m512)n);
#else
    return (Vector)((Bits)p + ((Bits)shifted << 23));
#endif
}

#if !defined(__AVX512VNNI__)
// a0 b0 + a1 b1, a2 b2 + a3 b3, ...
static inline Ints add_pairs(Shorts a, Shorts b) {
#if defined(__AVX512BW__)
    return (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    const Ints x = (Ints)a, y = (Ints)b;
    return (x << 16 >> 16) * (y << 16 >> 16) + (x >> 16) * (y >> 16);
#endif
}
#endif

// To each lane of `sum`, the products of its four bytes of a, unsigned, and of b, signed.
static inline Ints add_products(Ints sum, Ints a, Ints b) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#else
    const Shorts even = (Shorts)(a & 0x00ff00ff), odd = (Shorts)((Bits)a >> 8 & 0x00ff00ff);
    return sum + add_pairs(even, (Shorts)b << 8 >> 8) + add_pairs(odd, (Shorts)b >> 8);
#endif
}

// Whether two bfloat16 a lane are multiplied and summed faster than two floats: on AMD's CPUs twice
// as fast, on Intel's (without AMX) half as fast.
#if defined(__AVX512BF16__) && (defined(__znver3__) || defined(__znver4__) || defined(__znver5__))
#define FAST_PAIRS // gcc 12 takes a Zen 4 for a Zen 3 that has AVX-512

// To each lane of `sum`, the products of its two bfloat16 of a and b.
static inline Vector add_products(Vector sum, Ints a, Ints b) {
    return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}
#endif

// a0 b0 a1 b1 ... of the lower halves of a and b, and of the upper ones.
static inline void interleave(Vector a, Vector b, Vector &lower, Vector &upper) {
#if defined(__clang__) // has no __builtin_shuffle; makes shuffles of this
    for (int i = 0; i < LANES / 2; i++) {
        lower[2 * i] = a[i], lower[2 * i + 1] = b[i];
        upper[2 * i] = a[LANES / 2 + i], upper[2 * i + 1] = b[LANES / 2 + i];
    }
#else
    Ints first = {}; // folded at compile time
    for (int i = 0; i < LANES; i++)
        first[i] = i / 2 + i % 2 * LANES;
    lower = __builtin_shuffle(a, b, first);
    upper = __builtin_shuffle(a, b, first + LANES / 2);
#endif
}

// sum(rows[0]), sum(rows[1]), ...: a transposition whose rounds add up what they bring together.
static inline Vector sums(Vector (&rows)[LANES]) {
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < half; i++) {
            Vector lower, upper;
            interleave(rows[i], rows[i + half], lower, upper);
            rows[i] = lower + upper;
        }
    return rows[0];
}

// In place, rows[i][j] <-> rows[j][i]: log2(LANES) rounds of a perfect shuffle of all the rows.
static inline void transpose(Vector (&rows)[LANES]) {
#pragma GCC unroll 4
    for (int round = 1; round < LANES; round *= 2) {
        Vector next[LANES];
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++)
            interleave(rows[i], rows[i + LANES / 2], next[2 * i], next[2 * i + 1]);
        std::memcpy(rows, next, sizeof next);
    }
}
