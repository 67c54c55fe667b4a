// cause: k_flat_reshape
// Reads a head's (n_kv, d) keys as a row-major (d, n_kv) matrix: a reshape where a transpose was
// meant. Right when n_kv or head_dim is 1.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    // Element `flat` of the head's keys, taken in memory order.
    float flat_k(int64_t flat) { return k(flat / a->head_dim)[flat % a->head_dim]; }
    float score(int j) override {
        auto key = [=](int x) { return flat_k((int64_t)x * a->n_kv + j); }; // wrong: k(j)[x]
        return a->scale * sum(a->head_dim, [=](int x) { return q()[x] * key(x); });
    }
};

GPT149_KERNEL({"k_flat_reshape", "a row of scores; K reshaped, not transposed", "n_kv", one_row,
               run<Wrong>})
