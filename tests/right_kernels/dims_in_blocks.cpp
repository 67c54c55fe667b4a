// cause: none
// Scores and values in blocks of sixteen dims, the weights in between.
#include "../kernel_parts/rows.h"

struct Right : Rows {
    void score_keys(int j0, int n) override {
        std::fill_n(scores(), n, 0.0f);
        for (int x = 0; x < a->head_dim; x += 16)
            for (int j = 0; j < n; j++)
                scores()[j] += dot(q() + x, k(j0 + j) + x, std::min(16, a->head_dim - x));
        for (int j = 0; j < n; j++)
            scores()[j] *= a->scale;
    }
    void add_values(int j0, int n) override {
        for (int x0 = 0; x0 < a->head_dim; x0 += 16)
            for (int j = 0; j < n; j++)
                for (int x = x0; x < std::min(x0 + 16, a->head_dim); x++)
                    out()[x] += scores()[j] * v(j0 + j)[x];
    }
};

GPT149_KERNEL({"dims_in_blocks", "a row of scores; sixteen dims at a time", "n_kv", one_row,
               run<Right>})
