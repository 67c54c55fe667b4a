// cause: mutates_input
// Scales q in place, so the caller's q is changed. What the first call returns is right.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void score_keys(int j0, int n) override {
        float *row = const_cast<float *>(q());
        for (int x = 0; x < a->head_dim; x++)
            row[x] *= a->scale; // wrong: q belongs to the caller
        Rows::score_keys(j0, n);
    }
    float score(int j) override { return dot(q(), k(j), a->head_dim); } // q has the scale in it
};

GPT149_KERNEL({"mutates_q", "a row of scores; q scaled in place", "n_kv", one_row, run<Wrong>})
