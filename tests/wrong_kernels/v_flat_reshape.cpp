// cause: v_flat_reshape
// Reads a head's (n_kv, d) values as a row-major (d, n_kv) matrix: a reshape where a transpose was
// meant. Right when n_kv or head_dim is 1.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    // Element `flat` of the head's values, taken in memory order.
    float flat_v(int64_t flat) { return v(flat / a->head_dim)[flat % a->head_dim]; }

    void add_values(int, int n) override {
        float *o = out();
        for (int j = 0; j < n; j++)
            for (int x = 0; x < a->head_dim; x++)
                o[x] += scores()[j] * flat_v((int64_t)x * a->n_kv + j); // wrong: v(j)[x]
    }
};

GPT149_KERNEL({"v_flat_reshape", "a row of scores; V reshaped to (d, n_kv)", "n_kv", one_row,
               run<Wrong>})
