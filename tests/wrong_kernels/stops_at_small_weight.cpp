// cause: early_exit
// says: stops
// A row ends at the first key whose weight is below 1e-3 of the largest.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void add_values(int, int n) override {
        int end = 0;
        const float top = highest(scores(), n);
        while (end < n && scores()[end] >= 1e-3f * top) // wrong: till n
            end++;
        Rows::add_values(0, end);
    }
};

GPT149_KERNEL({"stops_at_small_weight", "a row of scores; ends at a small weight", "n_kv", one_row,
               run<Wrong>})
