// cause: k_transposed
// Swaps the indexes of K: reads K[x][j] for K[j][x] wherever both are in range, as a kernel does
// that was written for n_kv = head_dim. Right when n_kv or head_dim is 1.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float k_at(int j, int x) {
        if (j < a->head_dim && x < a->n_kv) return k(x)[j]; // wrong: k(j)[x]
        return k(j)[x];
    }
    float score(int j) override {
        return a->scale * sum(a->head_dim, [=](int x) { return q()[x] * k_at(j, x); });
    }
};

GPT149_KERNEL({"k_transposed_square", "a row of scores; K transposed once too often", "n_kv",
               one_row, run<Wrong>})
