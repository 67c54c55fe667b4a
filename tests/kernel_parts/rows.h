// rows.h: attention in parts, all of them right. A wrong kernel of the tests overrides the part
// that its mistake is in, and takes the others from here; a right one, what it does in its own way.
// Serial, float32 only.
#pragma once

#include "gpt149.h"

#include <algorithm>
#include <cmath>
#include <cstring>

// term(0) + ... + term(n - 1), in any order.
template <class Term> float sum(int n, Term term) {
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int x = 0; x < n; x++)
        total += term(x);
    return total;
}

inline float dot(const float *q, const float *k, int n) {
    return sum(n, [=](int x) { return q[x] * k[x]; });
}

inline void divide(float *row, int n, float by) {
    for (int x = 0; x < n; x++)
        row[x] /= by;
}

// The highest of n scores; -inf of none.
inline float highest(const float *s, int n) {
    float m = -INFINITY;
    for (int j = 0; j < n; j++)
        m = std::fmax(m, s[j]);
    return m;
}

// s[j] = exp(s[j] - m) for n scores; returns l plus their sum.
inline float exponentials(float *s, int n, float m, float l) {
    for (int j = 0; j < n; j++)
        l += s[j] = std::exp(s[j] - m);
    return l;
}

// The nearest float whose last n bits are 0; ties to even.
inline float shortened(float x, int n) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits += (1u << (n - 1)) - 1 + (bits >> n & 1);
    bits = bits >> n << n;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// One query at a time, with a row of n_kv scores in memory.
struct Rows {
    const gpt149_args *a; // the call
    int b, h, i;          // the row at hand: batch, head, query
    float m, l;           // its highest score, and the sum of its exponentials, so far

    // head_dim floats each; j < keys(). K and V are read in the head that group() says.
    virtual const float *q() { return gpt149_q(a, b, h, i); }
    virtual const float *k(int j) { return row_of(a->k, a->k_stride, j); }
    virtual const float *v(int j) { return row_of(a->v, a->v_stride, j); }
    virtual float *out() { return gpt149_out(a, b, h, i); }
    virtual int group() { return h / (a->n_head / a->n_kv_head); }
    virtual int keys() { return gpt149_visible(a, i); }
    const float *row_of(const void *tensor, const int64_t *stride, int j) {
        return (const float *)tensor + b * stride[0] + group() * stride[1] + j * stride[2];
    }

    virtual float *scores() { return (float *)a->workspace; } // (n_kv); in the end the weights
    virtual float score(int j) { return a->scale * dot(q(), k(j), a->head_dim); }

    // What every row starts with.
    virtual void begin() {
        m = -INFINITY;
        l = 0;
        std::fill_n(out(), a->head_dim, 0.0f);
    }
    // Puts the scores of the n keys from j0 on at the start of scores().
    virtual void score_keys(int j0, int n) {
        float *s = scores();
        for (int j = 0; j < n; j++)
            s[j] = score(j0 + j);
    }
    virtual void softmax() {
        m = std::fmax(m, highest(scores(), keys()));
        l = exponentials(scores(), keys(), m, l);
        divide(scores(), keys(), l);
    }
    // Adds the values of the n keys from j0 on to out, by the weights at the start of scores().
    virtual void add_values(int j0, int n) {
        float *o = out();
        for (int j = 0; j < n; j++) {
            const float p = scores()[j], *value = v(j0 + j);
            for (int x = 0; x < a->head_dim; x++)
                o[x] += p * value[x];
        }
    }

    virtual void row() {
        begin();
        score_keys(0, keys());
        softmax();
        add_values(0, keys());
    }
    virtual void head() {
        for (i = 0; i < a->n_q; i++)
            row();
    }
    virtual void call() {
        for (b = 0; b < a->batch; b++)
            for (h = 0; h < a->n_head; h++)
                head();
    }
};

// The functions of a gpt149_kernel: workspace_bytes for a row of scores, or none, and run.
inline int64_t one_row(const gpt149_args *a) {
    return (int64_t)a->n_kv * sizeof(float);
}
inline int64_t no_bytes(const gpt149_args *) {
    return 0;
}
template <class Kernel> const char *run(const gpt149_args *a) {
    Kernel kernel;
    kernel.a = a;
    kernel.call();
    return nullptr;
}
