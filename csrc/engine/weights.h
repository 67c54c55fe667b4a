// weights.h: what the engine knows of weights. How they are kept and multiplied, a unit for each
// type says: float32.cpp, bfloat16.cpp, int8.cpp, int4.cpp; screen.cpp bounds the logits of a head.
// The engine gets these as pointers, so that a run compiles what it needs, and all of it side by
// side.
#pragma once

#include "engine/memory.h"
#include "engine/noise.h"
#include "simd.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

enum WeightType : int32_t { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2, INT4 = 3 };

// What becomes of x W + b: replaces y; through the activation first; is added to y.
enum Epilogue { REPLACE, ACTIVATE, ADD };
enum Activation : int32_t { GELU = 0, GELU_TANH = 1, RELU = 2 };

// The share [first, last) of n things that falls to one of n_threads, or to several in a row; or
// one of the things.
struct Share {
    int first, last;
    Share(int n, int thread, int n_threads, int threads = 1)
        : first((int64_t)n * thread / n_threads),
          last((int64_t)n * (thread + threads) / n_threads) {}
    explicit Share(int one) : first(one), last(one + 1) {}
};

// W (in, out) and b, packed by panels of LANES outputs: see panels.h.
struct Matrix {
    int in = 0, out = 0;
    WeightType type = FLOAT32;
    int64_t bytes = 0;       // of data
    uint8_t *data = nullptr; // in a pool
    float *scales = nullptr; // in a pool; (out, padded to whole panels)
    Memory<float> bias;      // of the same shape

    int panels() const { return (out + LANES - 1) / LANES; }
    bool distant() const { return bytes >= 1 << 20; } // no L2 holds it until the next step
};

// y (n_rows, out) = x W + b for some of the panels. x: (n_rows, in), kept from `row` on.
struct Product {
    const Matrix &w;
    int row;
    float *y;
    int64_t y_stride;
    int n_rows;
    Epilogue epilogue;
    Activation activation;
    Share panels;
};

// A type of weights, and the activations of its products, as it wants them.
class Weights {
  public:
    virtual ~Weights() = default;

    // w[i * in_stride + o * out_stride] is what multiplies input i for output o; one stride is 1.
    // The bias is left 0. A pool that is filled holds the result, and w is not read. False where
    // there is no memory.
    virtual bool pack(Matrix &m, Pool &pool, const float *w, int in, int out, int64_t in_stride,
                      int64_t out_stride, int n_threads) const = 0;

    // What a one in output o reads, (in,): an embedding.
    virtual void row(const Matrix &m, int o, float *to) const = 0;

    // Memory for so many rows; false where there is none.
    virtual bool reserve(int rows, int widest) = 0;
    // Row x (n,) for a product to come.
    virtual void keep(int row, const float *x, int n) = 0;
    // x (n,) as the product takes it, in place: of types whose heads are screened.
    virtual void round(float * /*x*/, int /*n*/) const {}

    virtual void multiply(const Product &product) const = 0;
};

// Where the logits of a head lie at least and at most, without reading most of it: of several rows
// of x, each with a noise of its own.
class Bounds {
  public:
    static constexpr int PAUSE = 64; // steps from a try that left too many panels to the next

    virtual ~Bounds() = default;

    // Of a head in float32 or bfloat16, as it is packed; see Weights::pack.
    virtual bool pack(Pool &pool, const Matrix &head, int n_threads) = 0;
    // Memory for so many rows; false where there is none.
    virtual bool reserve_rows(int n, int n_threads) = 0;

    // Row x (in,) for `bound` to come.
    virtual void keep(int row, const float *x, int thread) = 0;

    // The bounds of a thread's share of the panels, over ids below `known`, for n rows and their
    // noises. After all rows are kept.
    virtual void bound(int n, const Noise *noise, int known, int thread, int n_threads) = 0;

    // least[row]: at least so large are k of its logits, noise included. After all have their
    // bounds.
    virtual void find_least(int row, int k, int thread) = 0;

    Memory<float> lower, upper; // (rows, panels): bounds of a panel's largest, noise included
    Memory<float> least;        // (rows,)
    int pause = 0;              // steps to the next try
};
