// cause: q_flat_reshape
// Reads a head's (n_q, d) queries as a row-major (d, n_q) matrix: a reshape where a transpose was
// meant. Right when n_q or head_dim is 1.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    // Element `flat` of the head's queries, taken in memory order.
    float flat_q(int64_t flat) { return gpt149_q(a, b, h, flat / a->head_dim)[flat % a->head_dim]; }
    float score(int j) override {
        auto query = [=](int x) { return flat_q((int64_t)x * a->n_q + i); }; // wrong: q()[x]
        return a->scale * sum(a->head_dim, [=](int x) { return query(x) * k(j)[x]; });
    }
};

GPT149_KERNEL({"q_flat_reshape", "a row of scores; Q reshaped to (d, n_q)", "n_kv", one_row,
               run<Wrong>})
