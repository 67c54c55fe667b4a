// noise.h: the random numbers of a draw, one for each token id.
//
// The ids race: id i, of probability p_i, arrives after the time E_i / p_i, where E_i = -log u_i is
// exponentially distributed, and is the first with probability p_i. It has the largest of
// log p_i + G_i, too, where G_i = -log E_i is Gumbel's extreme value: so bounds of the logits say
// who can win (screen.h), where inverting the cumulative distribution would take all of them.
// Sources: Gumbel: Statistical theory of extreme values, 1954; Yellott: The relationship between
// Luce's choice axiom and others, 1977; Maddison, Tarlow, Minka: A* sampling, 2014.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

// Added to the logits of a step, times the temperature; 0: nothing is.
struct Noise {
    uint64_t stream = 0;
    double temperature = 0;
};

// Output n of the SplitMix64 generator that starts at `state`. Counter-based: nothing passes from
// one draw to the next.
// Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.
static inline uint64_t mix64(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}
static inline uint64_t splitmix64(uint64_t state, uint64_t n) {
    return mix64(state + (n + 1) * 0x9E3779B97F4A7C15);
}

// Where the generator of a sample's step starts: at output 2^32 sample + step of the one that
// starts at mix64(seed).
static inline uint64_t stream_of(uint64_t seed, int64_t sample, int64_t step) {
    return splitmix64(mix64(seed), ((uint64_t)sample << 32) + step);
}

static inline double double_of(uint64_t bits) {
    double x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// log x for a normal x > 0, nearly to the last place. Plain arithmetic, so that loops of it become
// vectors: x = 2^n m with m from sqrt(1/2) to sqrt(2), and log m = 2 atanh((m - 1) / (m + 1)) by
// its series up to the 21st power.
static inline double log_of(double x) {
    constexpr uint64_t LEAST = 0x3FE6A09E667F3BCD; // bits of sqrt(1/2)
    uint64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits += ((uint64_t)1023 << 52) - LEAST;
    const double n = double_of(bits >> 52 | (uint64_t)0x433 << 52) - (0x1p52 + 1023);
    const double m = double_of((bits & (((uint64_t)1 << 52) - 1)) + LEAST);
    const double s = (m - 1) / (m + 1), square = s * s;
    double series = 1.0 / 21;
#pragma GCC unroll 10
    for (int i = 19; i > 0; i -= 2)
        series = series * square + 1.0 / i;
    return n * M_LN2 + 2 * s * series;
}

// E_i, of u_i = (k + 1/2) / 2^52 with k the upper 52 bits of the stream's output i.
static inline double exponential(uint64_t stream, int64_t id) {
    const double from_1_to_2 = double_of(splitmix64(stream, id) >> 12 | (uint64_t)1023 << 52);
    return -log_of(from_1_to_2 - (1 - 0x1p-53));
}

// G_i, from -3.7 to 36.8.
static inline double gumbel(uint64_t stream, int64_t id) {
    return -log_of(exponential(stream, id));
}
