// packed.h: K of a head copied to (head_dim, n_kv), so that the scores of neighbouring keys are
// computed side by side. See rows.h.
#pragma once

#include "rows.h"

struct Packed : Rows {
    float *panel() {
        return (float *)a->workspace + a->n_kv;
    } // (head_dim, n_kv), behind the scores

    virtual void pack() {
        for (int j = 0; j < a->n_kv; j++)
            for (int x = 0; x < a->head_dim; x++)
                panel()[(int64_t)x * a->n_kv + j] = k(j)[x];
    }
    void score_keys(int j0, int n) override {
        float *s = scores();
        std::fill_n(s, n, 0.0f);
        for (int x = 0; x < a->head_dim; x++) {
            const float qx = a->scale * q()[x], *kx = panel() + (int64_t)x * a->n_kv + j0;
            for (int j = 0; j < n; j++)
                s[j] += qx * kx[j];
        }
    }
    void head() override {
        pack();
        Rows::head();
    }
};

inline int64_t row_and_panel(const gpt149_args *a) {
    return (a->head_dim + 1) * one_row(a);
}
