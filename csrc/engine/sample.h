// sample.h: from logits to a token: penalty, temperature, filters, one draw.
//
// The order is Hugging Face's: repetition penalty, temperature, top-k, top-p, min-p. In double;
// ties go to the lower id; what is kept is drawn from as noise.h says. So every engine with the
// same logits writes the same text.
#pragma once

#include "engine/noise.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <vector>

// Mirrored by gpt149/engine/sampling.py.
struct Sampling {
    double temperature, top_p, min_p, repetition_penalty;
    int64_t top_k;
    uint64_t seed;
};

// e^x for x <= 0, nearly to the last place; 0 below e^-700. Plain arithmetic, so that loops of it
// become vectors: x = n ln 2 + r, and e^r by its series up to r^13.
static inline double exp_of_negative(double x) {
    const double in_range = std::max(x, -700.0);
    const double shifted = in_range * M_LOG2E + 0x1.8p52; // n is in its lowest bits
    const double n = shifted - 0x1.8p52;
    const double r = in_range - n * 0x1.62e42fefap-1 - n * 0x1.cf79abc9e3b3ap-40; // ln 2, twice
    double p = 1;
#pragma GCC unroll 13
    for (int i = 13; i > 0; i--)
        p = 1 + r * (1.0 / i) * p;
    uint64_t bits, power;
    std::memcpy(&bits, &p, sizeof p), std::memcpy(&power, &shifted, sizeof power);
    bits += power << 52;
    std::memcpy(&p, &bits, sizeof p);
    return x < -700 ? 0 : p;
}

// The largest of logits from .. to: that of N at once, since one of all is no vector for clang.
template <int N = 8, typename Logit> static double largest(const Logit &logit, int from, int to) {
    double most[N];
    std::fill_n(most, N, logit(from));
    int i = from;
    for (; i + N <= to; i += N)
#pragma omp simd
        for (int j = 0; j < N; j++)
            most[j] = logit(i + j) > most[j] ? logit(i + j) : most[j];
    for (; i < to; i++)
        most[0] = std::max(most[0], (double)logit(i));
    return *std::max_element(most, most + N);
}

// At least so large are k of n logits: so large are the largest of k runs of them.
template <typename Logit> static double floor_of(const Logit &logit, int n, int64_t k) {
    constexpr int RUN = 32;
    if (k <= 0 || k > n / RUN) return -INFINITY;
    std::vector<double> most;
    for (int i = 0; i < n; i += RUN)
        most.push_back(largest(logit, i, std::min(n, i + RUN)));
    std::nth_element(most.begin(), most.begin() + k - 1, most.end(), std::greater<double>());
    return most[k - 1];
}

// Sets to 0 what the filters drop of relative probabilities. Only as many are sorted as it takes.
// By logits, for at high temperatures all probabilities are equal.
template <typename Logit>
static void filter(const Sampling &s, const Logit &logit, std::vector<double> &p) {
    const auto likelier = [&](int a, int b) {
        return logit(a) > logit(b) || (logit(a) == logit(b) && a < b);
    };
    std::vector<int> order(s.top_k > 0 || s.top_p < 1 ? p.size() : 0);
    size_t possible = 0;
    for (size_t i = 0; i < order.size(); i++) {
        order[possible] = i;
        possible += p[i] > 0;
    }
    order.resize(possible);
    const auto keep = [&](size_t n) {
        for (size_t i = n; i < order.size(); i++)
            p[order[i]] = 0;
        order.resize(n);
    };
    if (0 < s.top_k && s.top_k < (int64_t)order.size()) {
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

// How many of the largest logits, with their noise, `choose` looks at; 0 where it looks at all.
static inline int likeliest(const Sampling &s) {
    if (s.repetition_penalty != 1) return 0;
    if (s.temperature == 0) return 1;
    if (s.top_k > 0) return (int)std::min<int64_t>(s.top_k, INT32_MAX);
    // At higher temperatures the lowest float, which stands for what was left out, has a chance.
    return s.top_p == 1 && s.min_p == 0 && s.temperature <= 1e30;
}

// The noise that is meant above: top-k wants the largest logits without.
static inline Noise noise_of(const Sampling &s, uint64_t stream) {
    return {stream, s.top_k > 0 ? 0 : s.temperature};
}

// Who arrives first, of ids with relative probabilities p.
static int first_of(const std::vector<double> &p, uint64_t stream) {
    constexpr int RUN = 64;
    const int n = p.size();
    double most = 0;
    int first = 0;
    for (int from = 0; from < n; from += RUN) {
        const int width = std::min(RUN, n - from);
        const double *const rate = p.data() + from;
        if (largest([=](int i) { return rate[i]; }, 0, width) == 0) continue;
        double speed[RUN];
#pragma omp simd
        for (int i = 0; i < width; i++)
            speed[i] = rate[i] / exponential(stream, from + i);
        if (largest([&](int i) { return speed[i]; }, 0, width) <= most) continue;
        for (int i = 0; i < width; i++)
            if (speed[i] > most) most = speed[i], first = from + i;
    }
    return first;
}

template <typename Logit>
static int choose_by(const Sampling &s, const Logit &logit, int n, uint64_t stream) {
    const double most = largest<16>(logit, 0, n);
    if (s.temperature == 0) {
        int best = 0;
        while (best < n - 1 && logit(best) != most)
            best++;
        return best;
    }
    const double least = floor_of(logit, n, s.top_k);
    std::vector<double> p(n);
    double *const to = p.data();
#pragma omp simd
    for (int i = 0; i < n; i++) {
        const double x = exp_of_negative((logit(i) - most) / s.temperature);
        to[i] = logit(i) < least ? 0 : x;
    }
    filter(s, logit, p);
    return first_of(p, stream);
}

// The next token from n logits, none of them NaN, with the noise of a stream. seen[i]: token i
// occurred.
static int choose(const Sampling &s, const float *logits, int n, const uint8_t *seen,
                  uint64_t stream) {
    const auto plain = [=](int i) -> double { return logits[i]; };
    const auto penalised = [=](int i) -> double {
        if (!seen[i]) return logits[i];
        return logits[i] > 0 ? logits[i] / s.repetition_penalty : logits[i] * s.repetition_penalty;
    };
    return s.repetition_penalty == 1 ? choose_by(s, plain, n, stream)
                                     : choose_by(s, penalised, n, stream);
}
