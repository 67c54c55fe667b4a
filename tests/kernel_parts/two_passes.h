// two_passes.h: no score is kept. The first pass over the keys leaves maximum and sum, the second
// computes the scores again. See rows.h.
#pragma once

#include "rows.h"

struct TwoPasses : Rows {
    virtual float exp(float x) { return std::exp(x); }
    virtual void first_pass() {
        for (int j = 0; j < keys(); j++) {
            const float s = score(j);
            if (s > m) {
                l *= exp(m - s);
                m = s;
            }
            l += exp(s - m);
        }
    }
    virtual void second_pass() {
        for (int j = 0; j < keys(); j++) {
            const float p = exp(score(j) - m) / l, *value = v(j);
            for (int x = 0; x < a->head_dim; x++)
                out()[x] += p * value[x];
        }
    }
    void row() override {
        begin();
        first_pass();
        second_pass();
    }
};
