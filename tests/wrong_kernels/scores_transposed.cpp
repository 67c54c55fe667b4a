// cause: scores_transposed
// says: exchanged
// The score of (i, j) is that of query j and key i. Right for one query, or where they are not
// equally many.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        const int query = i;
        if (a->n_q != a->n_kv) return Rows::score(j);
        i = j; // wrong: the query stays
        const float s = Rows::score(query);
        i = query;
        return s;
    }
};

GPT149_KERNEL({"scores_transposed", "a row of scores; i and j exchanged", "n_kv", one_row,
               run<Wrong>})
