// cause: q_address
// says: Q is read at element
// A decode step takes the queries of all heads to lie one behind the other.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *q() override {
        return a->n_q > 1 ? Rows::q()
                          : (const float *)a->q + (b * a->n_head + h) * a->head_dim; // wrong
    }
};

GPT149_KERNEL({"decode_query_contiguous", "a row of scores; decode on its own", "n_kv", one_row,
               run<Wrong>})
