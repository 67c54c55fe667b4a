// cause: keys_lost
// says: below
// Weights below 0.01 are skipped when V is added. Right where all are larger.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void add_values(int j0, int n) override {
        for (int j = 0; j < n; j++)
            if (scores()[j] < 0.01f) scores()[j] = 0; // wrong: as it is
        Rows::add_values(j0, n);
    }
};

GPT149_KERNEL({"weights_below_1_percent", "a row of scores; small weights skipped", "n_kv", one_row,
               run<Wrong>})
