// splits.h: the keys of a query in four splits, as flash decoding has them. Each leaves a maximum,
// a sum and an accumulator; then they are merged. Splits may be empty. See rows.h.
#pragma once

#include "rows.h"

struct Splits : Rows {
    static const int N = 4;
    struct Split {
        float m, l, *acc; // acc: (head_dim), in the workspace
    } splits[N];

    virtual int first(int s) { return (int64_t)keys() * s / N; }
    virtual int end(int s) { return first(s + 1); }
    virtual void add(Split &split, int j) {
        const float s = score(j), *value = v(j);
        if (s > split.m) {
            const float shrink = std::exp(split.m - s);
            split.l *= shrink;
            for (int x = 0; x < a->head_dim; x++)
                split.acc[x] *= shrink;
            split.m = s;
        }
        const float p = std::exp(s - split.m);
        split.l += p;
        for (int x = 0; x < a->head_dim; x++)
            split.acc[x] += p * value[x];
    }
    // By how much a split counts for l and for out, where m is the row's maximum.
    virtual float for_l(const Split &split) { return std::exp(split.m - m); }
    virtual float for_out(const Split &split) { return for_l(split); }
    virtual void merge() {
        begin();
        for (const Split &split : splits)
            m = std::fmax(m, split.m);
        for (const Split &split : splits) {
            l += for_l(split) * split.l;
            for (int x = 0; x < a->head_dim; x++)
                out()[x] += for_out(split) * split.acc[x];
        }
        divide(out(), a->head_dim, l);
    }
    void row() override {
        for (int s = 0; s < N; s++) {
            splits[s] = {-INFINITY, 0, (float *)a->workspace + s * a->head_dim};
            std::fill_n(splits[s].acc, a->head_dim, 0.0f);
            for (int j = first(s); j < end(s); j++)
                add(splits[s], j);
        }
        merge();
    }
};

inline int64_t accumulators(const gpt149_args *a) {
    return Splits::N * (int64_t)a->head_dim * sizeof(float);
}
