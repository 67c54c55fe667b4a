// heads.h: all scores of a head in memory, as naive.cpp has them. See rows.h.
#pragma once

#include "rows.h"

struct Heads : Rows {
    float *scores() override { return (float *)a->workspace + (int64_t)i * a->n_kv; }
    void head() override {
        for (i = 0; i < a->n_q; i++)
            score_keys(0, keys());
        for (i = 0; i < a->n_q; i++) {
            begin();
            softmax();
        }
        for (i = 0; i < a->n_q; i++)
            add_values(0, keys());
    }
};

inline int64_t all_rows(const gpt149_args *a) {
    return a->n_q * one_row(a);
}
