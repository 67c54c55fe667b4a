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
    static constexpr int CHUNK = 24; // panels at once, a multiple of what int8.h takes

    // A row of x: |x|, |x - X|, and the sum of |x_i|.
    struct Size {
        float length, left_length, sum;
    };

    Matrix copy;
    // In the pool; (outputs, padded to whole panels): |P| and |w - P|.
    float *norms = nullptr, *errors = nullptr;
    int rows = 0;
    Quantised rounded;                 // (2 rows, in): each rounded, and what that left
    Memory<Size> sizes;                // (rows,)
    Memory<float> rest, rough, sorted; // a thread's: (in,), (2 rows, CHUNK LANES), (panels,)

  public:
    bool pack(Pool &pool, const Matrix &head, int n_threads) override {
        if (!reserve<int8_t>(copy, pool, head.in, head.out)) return false;
        norms = pool.take<float>(copy.panels() * LANES);
        errors = pool.take<float>(copy.panels() * LANES);
        rest = allocate<float>((int64_t)n_threads * copy.in);
        sorted = allocate<float>((int64_t)n_threads * copy.panels());
        if (!norms || !errors || !rest || !sorted) return false;
        if (pool.filled()) return true;
        const auto pack =
            head.type == FLOAT32 ? &Screen::pack_panel<float> : &Screen::pack_panel<bfloat16>;
#pragma omp parallel for num_threads(n_threads)
        for (int p = 0; p < copy.panels(); p++)
            (this->*pack)(head, p);
        return true;
    }

    bool reserve_rows(int n, int n_threads) override {
        if (n <= rows) return true;
        lower = allocate<float>((int64_t)n * copy.panels());
        upper = allocate<float>((int64_t)n * copy.panels());
        least = allocate<float>(n), sizes = allocate<Size>(n);
        rough = allocate<float>((int64_t)n_threads * 2 * n * CHUNK * LANES);
        const bool kept = rounded.reserve(2 * n, copy.in);
        rows = kept && lower && upper && least && sizes && rough ? n : 0;
        return rows > 0;
    }

    void keep(int row, const float *x, int thread) override {
        const int n = copy.in;
        float *left = rest.get() + (int64_t)thread * n;
        rounded.keep(2 * row, x, n);
        rounded.rest(2 * row, x, n, left);
        rounded.keep(2 * row + 1, left, n);
        rounded.rest(2 * row + 1, left, n, left);
        double squares = 0, left_squares = 0, sum = 0;
#pragma omp simd reduction(+ : squares, left_squares, sum)
        for (int i = 0; i < n; i++) {
            squares += (double)x[i] * x[i];
            left_squares += (double)left[i] * left[i];
            sum += std::fabs(x[i]);
        }
        sizes[row] = {(float)std::sqrt(squares), (float)std::sqrt(left_squares), (float)sum};
    }

    void bound(int n, const Noise *noise, int known, int thread, int n_threads) override {
        const Share share(copy.panels(), thread, n_threads);
        const int64_t stride = CHUNK * LANES;
        float *own = rough.get() + thread * 2 * n * stride;
        for (int from = share.first; from < share.last; from += CHUNK) {
            Share some = share;
            some.first = from, some.last = std::min(from + CHUNK, share.last);
            multiply8({copy, 0, own - from * LANES, stride, 2 * n, REPLACE, RELU, some}, rounded);
            for (int r = 0; r < n; r++)
                for (int p = from; p < some.last; p++) {
                    const float *y = own + 2 * r * stride + (p - from) * LANES;
                    bound_panel(r * copy.panels() + p, p, load(y) + load(y + stride), sizes[r],
                                noise[r], known);
                }
        }
    }

    void find_least(int row, int k, int thread) override {
        const int n = copy.panels();
        float *own = sorted.get() + (int64_t)thread * n;
        std::copy_n(lower.get() + (int64_t)row * n, n, own);
        std::nth_element(own, own + k - 1, own + n, std::greater<float>());
        least[row] = own[k - 1];
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

    // at: of the row's bounds of panel p. y: its sums of the copy.
    void bound_panel(int64_t at, int p, Vector y, const Size &x, const Noise &noise, int known) {
        constexpr float INFINITE = std::numeric_limits<float>::infinity();
        // Of all roundings of floats: in packing, in Quantised, here, and in the head's product.
        const float slack = (copy.in + 64) * 0x1p-23f;
        const int o = p * LANES;
        const Vector norm = load(norms + o), error = load(errors + o);
        const Vector by_length = error * x.length;
        const Vector by_sum = load(copy.scales + o) * (0.5f * x.sum);
        const Vector lesser = by_length < by_sum ? by_length : by_sum;
        Vector off =
            (1 + slack) * lesser + norm * x.left_length + (norm + error) * (x.length * slack);
        if (noise.temperature > 0) perturb(noise, p, y, off);
        Vector low = y - off, high = y + off;
        const Vector odd = low * 0.0f + high * 0.0f; // NaN, where one is not finite
        if (largest_of<LANES>(odd == odd ? Vector{} : splat(1))[0] > 0) {
            lower[at] = -INFINITE, upper[at] = INFINITE;
            return;
        }
        for (int lane = std::max(0, known - o); lane < LANES; lane++) // none, of most panels
            low[lane] = high[lane] = -INFINITE;
        lower[at] = largest_of<LANES>(low)[0], upper[at] = largest_of<LANES>(high)[0];
    }
};
