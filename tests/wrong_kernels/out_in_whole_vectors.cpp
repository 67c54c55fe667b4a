// cause: touches_beyond
// says: end of out
// Rows of out are loaded and stored eight floats at a time: what lies behind a row is written back
// as it was. Values are right, until the last row ends where memory does.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void add_values(int j0, int n) override {
        float *o = out();
        for (int j = 0; j < n; j++) {
            const float p = scores()[j], *value = v(j0 + j);
            for (int x = 0; x < a->head_dim; x += 8) { // wrong: the tail alone
                float eight[8];
                std::memcpy(eight, o + x, sizeof eight);
                for (int y = 0; y < 8 && x + y < a->head_dim; y++)
                    eight[y] += p * value[x + y];
                std::memcpy(o + x, eight, sizeof eight);
            }
        }
    }
};

GPT149_KERNEL({"out_in_whole_vectors", "a row of scores; out in vectors of 8", "n_kv", one_row,
               run<Wrong>})
