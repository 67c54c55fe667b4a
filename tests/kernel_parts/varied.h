// varied.h: every variant of attention, one query at a time, in parts, all of them right. See
// rows.h.
#pragma once

#include "rows.h"

#include <vector>

const uint32_t EVERYTHING = GPT149_WINDOW | GPT149_SOFTCAP | GPT149_ALIBI | GPT149_SINKS |
                            GPT149_KV_BEGIN | GPT149_HEAD_DIM_V | GPT149_LSE | GPT149_KV_BFLOAT16 |
                            GPT149_Q_BFLOAT16;

struct Varied : Rows {
    std::vector<float> wide_q, wide_k, wide_v, sum; // rows as floats; of out

    virtual const float *load(int32_t dtype, const float *row, int n, std::vector<float> &to) {
        to.resize(n);
        return gpt149_load(dtype, row, n, to.data());
    }
    const float *q() override { return load(a->dtype, gpt149_q(a, b, h, i), a->head_dim, wide_q); }
    const float *k(int j) override {
        return load(a->kv_dtype, gpt149_k(a, b, h, j), a->head_dim, wide_k);
    }
    const float *v(int j) override {
        return load(a->kv_dtype, gpt149_v(a, b, h, j), width(), wide_v);
    }
    float *out() override { return sum.data(); }
    virtual int width() { return gpt149_head_dim_v(a); } // of rows of v and out

    // Of the keys first() .. keys() - 1 those count that the query sees.
    virtual int first() { return std::max(0, gpt149_first(a, b, i)); }
    virtual bool sees(int) { return true; }
    int position() { return i + a->n_kv - a->n_q; }

    // From a product to a score, in steps.
    float score(int j) override { return biased(j, capped(j, a->scale * product(j))); }
    virtual float product(int j) { return dot(q(), k(j), a->head_dim); }
    virtual float capped(int, float s) {
        return a->softcap > 0 ? a->softcap * std::tanh(s / a->softcap) : s;
    }
    virtual float biased(int j, float s) {
        return a->alibi_slopes ? s + slope() * (float)(j - position()) : s;
    }
    virtual float slope() { return a->alibi_slopes[h]; }

    virtual float sink() { return gpt149_sink(a, h); }
    virtual float top() { return sink(); } // what the maximum begins with
    virtual float of_sink() { return a->sinks ? std::exp(sink() - m) : 0; } // in the sum
    virtual float lse() { return m + std::log(l); }

    virtual void store() { gpt149_store(a->dtype, gpt149_out(a, b, h, i), width(), out()); }
    void row() override {
        float *s = scores();
        sum.assign(width(), 0);
        m = top(), l = 0;
        for (int j = first(); j < keys(); j++)
            if (sees(j)) m = std::fmax(m, s[j] = score(j));
        for (int j = first(); j < keys(); j++)
            if (sees(j)) l += s[j] = std::exp(s[j] - m);
        l += of_sink();
        for (int j = first(); j < keys(); j++) {
            if (!sees(j)) continue;
            const float p = s[j] / l, *value = v(j);
            for (int x = 0; x < width(); x++)
                out()[x] += p * value[x];
        }
        store();
        if (a->lse) *gpt149_lse(a, b, h, i) = lse();
    }
};
