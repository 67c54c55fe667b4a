// cause: v_address
// says: \bV\b
// V's tokens are taken to be n_q elements apart, modulo what a head has. Right when n_q is
// head_dim.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void add_values(int j0, int n) override {
        const int64_t size = (int64_t)a->n_kv * a->head_dim;
        for (int j = 0; j < n; j++)
            for (int x = 0; x < a->head_dim; x++) {
                const int64_t e =
                    ((int64_t)(j0 + j) * a->n_q + x) % size; // wrong: head_dim for n_q
                out()[x] += scores()[j] * v(e / a->head_dim)[e % a->head_dim];
            }
    }
};

GPT149_KERNEL({"v_rows_n_q_apart", "a row of scores; V's rows n_q apart", "n_kv", one_row,
               run<Wrong>})
