// cause: queries_normalised
// says: lengths
// A query-key norm is left in: queries are divided by their length, times sqrt(head_dim).
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        const float length = std::sqrt(dot(q(), q(), a->head_dim) / a->head_dim);
        return Rows::score(j) / length; // wrong: as it is
    }
};

GPT149_KERNEL({"queries_normalised", "a row of scores; queries of length one", "n_kv", one_row,
               run<Wrong>})
