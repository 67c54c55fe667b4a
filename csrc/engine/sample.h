// sample.h: from logits to a token: penalty, temperature, filters, one draw.
//
// The order is Hugging Face's: repetition penalty, temperature, top-k, top-p, min-p. In double;
// ties go to the lower id; the draw inverts the cumulative distribution in id order. So every
// engine with the same logits writes the same text.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

// Mirrored by gpt149/sampling.py.
struct Sampling {
    double temperature, top_p, min_p, repetition_penalty;
    int64_t top_k;
    uint64_t seed;
};

static uint64_t mix64(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

// In [0, 1): entry c = 2^32 sample + step of a SplitMix64 stream, which starts at mix64(seed); its
// upper 53 bits. Counter-based: no state passes from token to token.
// Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.
static double uniform(uint64_t seed, int64_t sample, int64_t step) {
    const uint64_t entry = ((uint64_t)sample << 32) + step + 1;
    return (mix64(mix64(seed) + entry * 0x9E3779B97F4A7C15) >> 11) * 0x1p-53;
}

// Sets to 0 what the filters drop of relative probabilities. Only as many are sorted as it takes.
static void filter(const Sampling &s, std::vector<double> &p) {
    const auto likelier = [&](int a, int b) { return p[a] > p[b] || (p[a] == p[b] && a < b); };
    std::vector<int> order(p.size());
    std::iota(order.begin(), order.end(), 0);
    const auto keep = [&](size_t n) {
        for (size_t i = n; i < order.size(); i++)
            p[order[i]] = 0;
        order.resize(n);
    };
    if (0 < s.top_k && s.top_k < (int64_t)p.size()) {
        std::nth_element(order.begin(), order.begin() + s.top_k, order.end(), likelier);
        keep(s.top_k);
    }
    if (s.top_p < 1) {
        const double wanted = s.top_p * std::accumulate(p.begin(), p.end(), 0.0);
        double reached = 0;
        size_t n = 0, sorted = 0;
        while (n < order.size() && (n == 0 || reached < wanted)) {
            if (n == sorted) {
                sorted = std::min(order.size(), std::max<size_t>(64, 4 * sorted));
                std::partial_sort(order.begin() + n, order.begin() + sorted, order.end(), likelier);
            }
            reached += p[order[n++]];
        }
        keep(n);
    }
    if (s.min_p > 0) {
        const double least = s.min_p * *std::max_element(p.begin(), p.end());
        for (double &x : p)
            if (x < least) x = 0;
    }
}

// The next token from n logits, none of them NaN, and a draw u in [0, 1). seen[i]: token i
// occurred.
static int choose(const Sampling &s, const float *logits, int n, const uint8_t *seen, double u) {
    const bool penalised = s.repetition_penalty != 1;
    const auto logit = [&](int i) -> double {
        if (!penalised || !seen[i]) return logits[i];
        return logits[i] > 0 ? logits[i] / s.repetition_penalty : logits[i] * s.repetition_penalty;
    };
    int best = 0;
    double most = logit(0);
    for (int i = 1; i < n; i++) {
        const double x = logit(i);
        if (x > most) most = x, best = i;
    }
    if (s.temperature == 0) return best;

    std::vector<double> p(n);
    for (int i = 0; i < n; i++)
        p[i] = std::exp((logit(i) - most) / s.temperature);
    filter(s, p);
    const double wanted = u * std::accumulate(p.begin(), p.end(), 0.0);
    double reached = 0;
    int chosen = best;
    for (int i = 0; i < n; i++) {
        if (p[i] == 0) continue;
        chosen = i; // the last one, should `wanted` round up to the whole sum
        reached += p[i];
        if (wanted < reached) break;
    }
    return chosen;
}
