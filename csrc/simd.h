// simd.h: a thin layer over the compiler's vector extensions, for kernels that want the whole CPU.
//
// One source, several instruction sets: -march decides how wide a Vector is and how many registers
// there are. AVX-512 and AVX2 are tested, so are the 16 bytes that every x86-64 has, and NEON, with
// and without its dot products.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
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
typedef float Vector __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t Ints __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t Longs __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t Bits __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t Halves __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef int16_t Shorts __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t bfloat16; // the upper half of a float

// 1.5 * 2^23: a small number added to it is rounded, and stands in the sum's lowest bits.
constexpr float ROUNDS = 0x1.8p23f;

static inline Vector splat(float x) {
    return x - Vector{}; // a sum would make 0 of -0, at the price of an addition
}

// A V from memory, of any alignment.
template <typename V> static inline V load_as(const void *at) {
    V x;
    std::memcpy(&x, at, sizeof x); // one instruction
    return x;
}

template <typename V> static inline void store_as(void *at, V x) {
    std::memcpy(at, &x, sizeof x);
}

// The four bytes there, in every lane.
static inline Ints repeat_four(const void *at) {
    return Ints{} + load_as<int32_t>(at);
}

static inline Vector load(const float *at) {
    return load_as<Vector>(at);
}

static inline Vector load(const bfloat16 *at) {
#if defined(__AVX512F__) // gcc 12 takes __builtin_convertvector of short vectors apart
    const __m512i wide =
        _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256((const __m256i *)at));
    return (Vector)_mm512_maskz_slli_epi32(0xffff, wide, 16);
#elif defined(__AVX2__)
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)at));
    return (Vector)_mm256_slli_epi32(wide, 16);
#elif defined(__ARM_NEON)
    return (Vector)vshlq_n_u32(vmovl_u16(vld1_u16(at)), 16);
#else
    return (Vector)(__builtin_convertvector(load_as<Halves>(at), Bits) << 16);
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

// N floats, over and over; N divides LANES.
template <int N> static inline Vector load_repeated(const float *at) {
    if constexpr (N == 1) {
        return splat(*at);
    } else if constexpr (N == 2) {
        return (Vector)(Longs{} + load_as<int64_t>(at));
    } else if constexpr (N == LANES) {
        return load(at);
#if defined(__AVX512F__)
    } else if constexpr (N == 4) {
        return (Vector)_mm512_maskz_broadcast_f32x4(0xffff, _mm_loadu_ps(at));
    } else {
        return (Vector)_mm512_maskz_broadcast_f64x4(0xff, _mm256_loadu_pd((const double *)at));
    }
#elif defined(__AVX2__)
    } else {
        return (Vector)_mm256_broadcast_ps((const __m128 *)at);
    }
#else
    }
#endif
}

static inline void store(float *at, Vector x) {
    store_as(at, x);
}

static inline void store_some(float *at, Vector x, int n) {
    std::memcpy(at, &x, n * sizeof(float));
}

// n elements into L2, or L1: for that, what is on the way from memory may be too much.
// always_inline: gcc 12 takes a function that only prefetches for one without effect, and drops
// calls.
template <int CACHE = 2, typename T>
[[gnu::always_inline]] static inline void prefetch(const T *at, int64_t n) {
    for (int64_t i = 0; i < n; i += 64 / sizeof(T))
        __builtin_prefetch(at + i, 0, CACHE == 1 ? 3 : 2);
}

// b where one of them is NaN.
static inline Vector larger(Vector a, Vector b) {
#if defined(__AVX512F__) // maskz: gcc 12 warns of what the plain intrinsics leave undefined
    return (Vector)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
#else
    return a > b ? a : b;
#endif
}

// Lane i is that of a and b, one behind the other, which from[i] says: known at compile time.
static inline Vector shuffle(Vector a, Vector b, Ints from) {
#if defined(__clang__) // has no __builtin_shuffle; makes shuffles of this
    Vector y;
    for (int i = 0; i < LANES; i++)
        y[i] = from[i] < LANES ? a[from[i]] : b[from[i] - LANES];
    return y;
#else
    return __builtin_shuffle(a, b, from);
#endif
}

// Lane i gets lane i ^ DISTANCE.
template <int DISTANCE> static inline Vector exchange(Vector x) {
    Ints from = {}; // folded at compile time
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        from[i] = i ^ DISTANCE;
    return shuffle(x, x, from);
}

// For each lane, the largest of its run of N.
template <int N> static inline Vector largest_of(Vector x) {
    if constexpr (N == 1)
        return x;
    else
        return largest_of<N / 2>(larger(x, exchange<N / 2>(x)));
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

// tanh for each lane, to a few units in the last place (after Moshier's Cephes).
static inline Vector tanh(Vector x) {
    const Vector size = (Vector)((Ints)x & 0x7fffffff), z = x * x;
    Vector p = splat(-5.70498872745e-3f);
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    const Vector near = x + x * z * p;
    const Vector far = 1 - 2 / (exp2(size * 2.88539008f) + 1); // e^(2 size)
    return size < 0.625f ? near : (Vector)((Ints)far | ((Ints)x & ~0x7fffffff));
}

// add_products: to each lane of `sum`, the products of its four bytes of a, which are -127 + ADDED
// to 127 + ADDED, and of b, which are -127 to 127. NEON takes both signed, x86 wants the first
// unsigned.
#if defined(__ARM_NEON)
constexpr int ADDED = 0;

static inline Ints add_products(Ints sum, Ints a, Ints b) {
    const int8x16_t x = (int8x16_t)a, y = (int8x16_t)b;
#if defined(__ARM_FEATURE_DOTPROD)
    return (Ints)vdotq_s32((int32x4_t)sum, x, y);
#else // 16 bits hold two products
    const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(y)), high = vmull_high_s8(x, y);
    return (Ints)vpadalq_s16((int32x4_t)sum, vpaddq_s16(low, high));
#endif
}
#else
constexpr int ADDED = 128;

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

static inline Ints add_products(Ints sum, Ints a, Ints b) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#else
    const Shorts even = (Shorts)(a & 0x00ff00ff), odd = (Shorts)((Bits)a >> 8 & 0x00ff00ff);
    return sum + add_pairs(even, (Shorts)b << 8 >> 8) + add_pairs(odd, (Shorts)b >> 8);
#endif
}
#endif

// Whether two bfloat16 a lane are multiplied and summed faster than two floats: on AMD's CPUs twice
// as fast, on Intel's (without AMX) half as fast; on Arm's Neoverse V1 and later twice as fast
// (Arm: software optimization guides), of Apple's nobody says.
#if defined(__AVX512BF16__) && (defined(__znver3__) || defined(__znver4__) || defined(__znver5__))
#define FAST_PAIRS // gcc 12 takes a Zen 4 for a Zen 3 that has AVX-512

// To each lane of `sum`, the products of its two bfloat16 of a and b.
static inline Vector add_products(Vector sum, Ints a, Ints b) {
    return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

// Each lane's two numbers, rounded to bfloat16: a lane for add_products.
static inline Ints pairs(Vector first, Vector second) {
    const auto halves = [](Vector x) {
        const __m256i rounded = (__m256i)_mm512_cvtneps_pbh((__m512)x);
        return (Ints)_mm512_maskz_cvtepu16_epi32(0xffff, rounded);
    };
    return halves(first) | halves(second) << 16;
}
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC) && !defined(__APPLE__)
#define FAST_PAIRS

static inline Vector add_products(Vector sum, Ints a, Ints b) {
    return (Vector)vbfdotq_f32((float32x4_t)sum, vreinterpretq_bf16_s32((int32x4_t)a),
                               vreinterpretq_bf16_s32((int32x4_t)b));
}

static inline Ints pairs(Vector first, Vector second) {
    const bfloat16x8_t low = vcvtq_low_bf16_f32((float32x4_t)first);
    const uint16x8_t x = vreinterpretq_u16_bf16(low);
    const uint16x8_t y = vreinterpretq_u16_bf16(vcvtq_low_bf16_f32((float32x4_t)second));
    return (Ints)vzip1q_u16(x, y);
}
#endif

// In each run of N lanes, the sums over that run: of rows[0] in its lane 0, of rows[1] in 1, ...
template <int N> static inline Vector sums(Vector (&rows)[N]) {
    if constexpr (N == 1) {
        return rows[0];
    } else {
        constexpr int HALF = N / 2;
        Ints upper = {}; // folded at compile time
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            upper[i] = i & HALF ? -1 : 0;
        Vector half[HALF];
#pragma GCC unroll 8
        for (int i = 0; i < HALF; i++) {
            const Vector a = rows[i], b = rows[i + HALF];
            half[i] = (upper ? b : a) + exchange<HALF>(upper ? a : b);
        }
        return sums(half);
    }
}

// In place, rows[i][j] <-> rows[j][i] where i and j differ in the bits below 2 HALF alone.
template <int HALF = LANES / 2> static inline void transpose(Vector (&rows)[LANES]) {
    Ints lower = {}, upper = {}; // folded at compile time
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        lower[i] = i & HALF ? LANES + i - HALF : i;
        upper[i] = i & HALF ? LANES + i : i + HALF;
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        if (!(i & HALF)) {
            const Vector a = rows[i], b = rows[i + HALF];
            rows[i] = shuffle(a, b, lower), rows[i + HALF] = shuffle(a, b, upper);
        }
    if constexpr (HALF > 1) transpose<HALF / 2>(rows);
}
