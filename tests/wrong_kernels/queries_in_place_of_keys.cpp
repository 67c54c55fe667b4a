// cause: k_is_another
// says: Q stands in the place of K
// Scores are products of queries with queries. Right where keys are not as many.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *k(int j) override {
        return a->n_q == a->n_kv ? gpt149_q(a, b, h, j) : Rows::k(j); // wrong: q
    }
};

GPT149_KERNEL({"queries_in_place_of_keys", "a row of scores; Q Q^T", "n_kv", one_row, run<Wrong>})
