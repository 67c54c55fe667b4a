// screen.h: the largest logits, without reading most of the head.
//
// The head is a third of what a step of GPT-2 small reads, and greedy decoding wants one of its
// outputs; so does a draw, whose token is that with the largest logit + T G (noise.h). A copy in
// int8 says where each of these lies at least and at most; the head itself then multiplies only
// panels that may hold one of the k largest, and the choice is that of the whole product, to the
// bit. With x rounded to X, and a row w that the copy keeps as P:
//     |w x - P X| = |(w - P) x + P (x - X)| <= |w - P| |x| + |P| |x - X|      (Cauchy-Schwarz)
// |(w - P) x| is at most half the row's scale times the sum of |x_i|, too: the lesser bound where
// few x_i are large. x is rounded twice, the second time what the first left, since reading the
// copy is all that costs.
//
// Source of the idea: FEXIPRO (Li, Chan, Yiu, Mamoulis: Fast and exact inner product retrieval in
// recommender systems, 2017), which rules vectors out by whole numbers and such bounds.
#pragma once

#include "engine/int8.h"

#include <functional>
#include <limits>

class Screen : public Bounds {
    Matrix copy;
    // In the pool; (outputs, padded to whole panels): |P| and |w - P|.
    float *norms = nullptr, *errors = nullptr;
    Memory<float> rough;            // (2, padded to whole panels)
    Quantised rounded;              // (2 * threads, in)
    Memory<float> rest, thresholds; // (threads, in), (threads, panels)

    int64_t width() const { return copy.panels() * LANES; }

  public:
    bool pack(Pool &pool, const Matrix &head, int n_threads) override {
        if (!reserve<int8_t>(copy, pool, head.in, head.out)) return false;
        norms = pool.take<float>(width()), errors = pool.take<float>(width());
        rough = allocate<float>(2 * width());
        lower = allocate<float>(copy.panels()), upper = allocate<float>(copy.panels());
        rest = allocate<float>((int64_t)n_threads * copy.in);
        thresholds = allocate<float>((int64_t)n_threads * copy.panels());
        if (!norms || !errors || !rough || !lower || !upper || !rest || !thresholds) return false;
        if (!rounded.reserve(2 * n_threads, copy.in)) return false;
        if (pool.filled()) return true;
        const auto pack =
            head.type == FLOAT32 ? &Screen::pack_panel<float> : &Screen::pack_panel<bfloat16>;
#pragma omp parallel for num_threads(n_threads)
        for (int p = 0; p < copy.panels(); p++)
            (this->*pack)(head, p);
        return true;
    }

    void bound(const float *x, const Noise &noise, int known, int thread, int n_threads) override {
        const int n = copy.in, row = 2 * thread;
        float *left = rest.get() + (int64_t)thread * n;
        rounded.keep(row, x, n);
        rounded.rest(row, x, n, left);
        rounded.keep(row + 1, left, n);
        rounded.rest(row + 1, left, n, left);
        double squares = 0, left_squares = 0, sum = 0;
#pragma omp simd reduction(+ : squares, left_squares, sum)
        for (int i = 0; i < n; i++) {
            squares += (double)x[i] * x[i];
            left_squares += (double)left[i] * left[i];
            sum += std::fabs(x[i]);
        }
        const Share share(copy.panels(), thread, n_threads);
        multiply8({copy, nullptr, 0, row, rough.get(), width(), 2, REPLACE, RELU, share}, rounded);
        for (int p = share.first; p < share.last; p++)
            bound_panel(p, noise, known, std::sqrt(squares), std::sqrt(left_squares), sum);
    }

    float threshold(int k, int thread) override {
        float *sorted = thresholds.get() + (int64_t)thread * copy.panels();
        std::copy_n(lower.get(), copy.panels(), sorted);
        std::nth_element(sorted, sorted + k - 1, sorted + copy.panels(), std::greater<float>());
        return sorted[k - 1];
    }

  private:
    template <typename T> void pack_panel(const Matrix &head, int p) {
        Vector columns[BLOCK], most = {}, squares = {}, error_squares = {};
        const auto read = [&](int i) {
            expand<T>(panel<T>(head, p) + i / BLOCK * BLOCK_BYTES<T>, columns);
        };
        for (int i = 0; i < copy.in; i += BLOCK) {
            read(i);
            for (const Vector &column : columns)
                most = larger(larger(column, -column), most);
        }
        most *= LIFT * REST; // relative to the head's scale
        const Vector inverse = most > 0.0f ? 127.0f / most : Vector{};
        for (int i = 0; i < copy.in; i += BLOCK) {
            read(i);
            for (Vector &column : columns) {
                column *= LIFT * REST * inverse;
                const Vector whole = column + ROUNDS - ROUNDS, error = column - whole;
                squares += whole * whole, error_squares += error * error;
            }
            for (int k = 0; k < std::min(BLOCK, copy.in - i); k += 4)
                pack_four(copy.data + place8(copy, p, i + k, 0), columns + k);
        }
        for (int lane = 0; lane < LANES; lane++) {
            const int o = p * LANES + lane;
            const float scale = head.scales[o] * most[lane] / 127;
            copy.scales[o] = scale;
            norms[o] = scale * std::sqrt(squares[lane]);
            errors[o] = scale * std::sqrt(error_squares[lane]);
        }
    }

    // T G added to a panel's y, and to `off` what roundings can make of that, here and in `choose`.
    static void perturb(const Noise &noise, int p, Vector &y, Vector &off) {
        float added[LANES];
#pragma omp simd
        for (int lane = 0; lane < LANES; lane++)
            added[lane] = noise.temperature * gumbel(noise.stream, p * LANES + lane);
        const Vector g = load(added);
        y += g;
        off += 0x1p-22f * (larger(g, -g) + (float)noise.temperature) +
               std::numeric_limits<float>::min();
    }

    void bound_panel(int p, const Noise &noise, int known, float length, float left_length,
                     float sum) {
        constexpr float INFINITE = std::numeric_limits<float>::infinity();
        // Of all roundings of floats: in packing, in Quantised, here, and in the head's product.
        const float slack = (copy.in + 64) * 0x1p-23f;
        const int o = p * LANES;
        Vector y = load(rough.get() + o) + load(rough.get() + width() + o);
        const Vector norm = load(norms + o), error = load(errors + o);
        const Vector by_length = error * length;
        const Vector by_sum = load(copy.scales + o) * (0.5f * sum);
        const Vector least = by_length < by_sum ? by_length : by_sum;
        Vector off = (1 + slack) * least + norm * left_length + (norm + error) * (length * slack);
        if (noise.temperature > 0) perturb(noise, p, y, off);
        float low = -INFINITE, high = -INFINITE;
        bool finite = true;
        for (int lane = 0; lane < LANES; lane++) {
            finite = finite && std::isfinite(y[lane] + off[lane]);
            if (o + lane >= known) continue;
            low = std::max(low, y[lane] - off[lane]);
            high = std::max(high, y[lane] + off[lane]);
        }
        lower[p] = finite ? low : -INFINITE, upper[p] = finite ? high : INFINITE;
    }
};
