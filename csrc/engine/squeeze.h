// squeeze.h: weights without the bits that say nothing, for decode is bound by reading them.
//
// What one output weighs its inputs with has nearly the same exponent everywhere. Relative to the
// largest, four bits of eight say it: a float is 28 bits and a bfloat16 12, with whole mantissas.
// Source of the idea: DFloat11 (Zhang et al. 2025), which codes the exponents after Huffman; four
// bits of a fixed place cost two or three instructions a vector.
//
// Exact from 2^-14 of the largest on. Below, a float is kept to 2^-38 of the largest, and a
// bfloat16 becomes 2^-14 of it or 0.
//
// A block is eight inputs of LANES outputs: eight words of 32 bits a lane, or, with two bfloat16 to
// a lane, four of 2 x 16. A word has four bits to spare, and in those lies the block's last word:
//     sign | four bits of the last word | exponent, 0 to 15 | mantissa
// Without these, a word is its weight's number already, but for a factor.
#pragma once

#include "simd.h"

#include <type_traits>

constexpr int BLOCK = 8; // inputs

template <typename T> struct Squeezed;

template <> struct Squeezed<float> {
    using Word = uint32_t;
    using Words = Bits;
    using Signed = Ints;
};

template <> struct Squeezed<bfloat16> {
    using Word = uint16_t;
    using Words = uint16_t __attribute__((vector_size(VECTOR_BYTES)));
    using Signed = Shorts;
};

// Words of a block, and bytes of it in memory.
template <typename T> constexpr int WORDS = BLOCK * sizeof(T) / sizeof(float);
template <typename T> constexpr int64_t BLOCK_BYTES = (WORDS<T> - 1) * VECTOR_BYTES;

// A weight is its word's number times LIFT, REST and the scale of its output, for one factor might
// be out of range. LIFT goes to the inputs, which may be from 2^-78 to 2^64; REST to the sums.
constexpr float LIFT = 0x1p64f, REST = 0x1p32f;

template <typename T> constexpr typename Squeezed<T>::Word SIGN = 1ull << (8 * sizeof(T) - 1);
template <typename T> constexpr typename Squeezed<T>::Word SPARE = 15 * (SIGN<T> >> 4);
template <typename T> constexpr typename Squeezed<T>::Word OWN = ~SPARE<T>;

// The words of a block; the bits to spare are 0.
template <typename T>
static inline void unfold(const uint8_t *at, typename Squeezed<T>::Words (&words)[WORDS<T>]) {
    using Words = typename Squeezed<T>::Words;
    constexpr int LAST = WORDS<T> - 1;
    Words last = {};
    for (int j = 0; j < LAST; j++) {
        const Words word = load_as<Words>(at + j * VECTOR_BYTES);
        words[j] = word & OWN<T>;
        last = last >> 4 | (word & SPARE<T>);
    }
    words[LAST] = (Words)((typename Squeezed<T>::Signed)(last << 1) >> 4) & OWN<T>;
}

// The inverse.
template <typename T>
static inline void fold(const typename Squeezed<T>::Words (&words)[WORDS<T>], uint8_t *to) {
    using Words = typename Squeezed<T>::Words;
    constexpr int LAST = WORDS<T> - 1, LOWEST = 8 * sizeof(T) - 5; // of the bits to spare
    const Words sign = words[LAST] & SIGN<T>, last = (words[LAST] ^ sign) | sign >> 4;
    for (int j = 0; j < LAST; j++)
        store_as(to + j * VECTOR_BYTES, words[j] | (last >> 4 * j << LOWEST & SPARE<T>));
}

// A block as it is multiplied by floats: its inputs one by one.
template <typename T>
[[gnu::always_inline]] static inline void expand(const uint8_t *at, Vector (&columns)[BLOCK]) {
    typename Squeezed<T>::Words words[WORDS<T>];
    unfold<T>(at, words);
    for (int j = 0; j < WORDS<T>; j++)
        if constexpr (std::is_same_v<T, float>) {
            columns[j] = (Vector)words[j];
        } else {
            columns[2 * j] = (Vector)((Bits)words[j] << 16);
            columns[2 * j + 1] = (Vector)((Bits)words[j] & 0xffff0000);
        }
}

// By pairs of bfloat16.
template <typename T>
[[gnu::always_inline]] static inline void expand(const uint8_t *at, Ints (&columns)[BLOCK / 2]) {
    typename Squeezed<T>::Words words[WORDS<T>];
    unfold<T>(at, words);
    for (int j = 0; j < WORDS<T>; j++)
        columns[j] = (Ints)words[j];
}

static inline Bits to_bfloat16(Vector x) { // in the upper halves; to nearest, ties to even
    const Bits bits = (Bits)x;
    return (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
}

// The scale of outputs whose largest weights these are; infinite from 2^112 on.
template <typename T> static inline Vector scale_for(Vector largest) {
    const Bits bits = std::is_same_v<T, float> ? (Bits)largest : to_bfloat16(largest);
    return (Vector)(bits & 0x7f800000) * (0x1p112f / LIFT / REST);
}

// The words of weights that are divided by their scale.
static inline void squeeze(const Vector *weights, Bits (&words)[BLOCK]) {
    for (int j = 0; j < BLOCK; j++)
        words[j] = (Bits)(weights[j] * (1 / LIFT / REST));
}

static inline void squeeze(const Vector *weights,
                           Squeezed<bfloat16>::Words (&words)[WORDS<bfloat16>]) {
    Bits halves[BLOCK];
    for (int j = 0; j < BLOCK; j++) {
        const Bits bits = (Bits)(weights[j] * (1 / LIFT / REST)), sign = bits & 0x80000000;
        const Bits subnormal = (Bits)((bits ^ sign) < 0x00800000); // CPUs take them for 0
        const Bits nearest = ((bits ^ sign) + 0x00400000) & 0x00800000;
        halves[j] = (subnormal & (sign | nearest)) | (~subnormal & to_bfloat16((Vector)bits));
    }
    for (int j = 0; j < WORDS<bfloat16>; j++)
        words[j] = (Squeezed<bfloat16>::Words)(halves[2 * j] >> 16 | halves[2 * j + 1]);
}
