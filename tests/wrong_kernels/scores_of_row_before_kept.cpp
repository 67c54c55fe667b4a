// cause: scores_accumulated
// says: cleared
// Scores are added to what the row of scores holds, which is cleared for the first query alone.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void score_keys(int, int n) override {
        float *s = scores();
        if (i == 0) std::fill_n(s, a->n_kv, 0.0f); // wrong: for any query
        for (int j = 0; j < n; j++)
            s[j] += score(j);
    }
};

GPT149_KERNEL({"scores_of_row_before_kept", "a row of scores; added up", "n_kv", one_row,
               run<Wrong>})
