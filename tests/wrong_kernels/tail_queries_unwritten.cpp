// cause: queries_unwritten
// Query tiles of br (default 32), full ones only: the n_q % br rows behind them are never written.
// Right when br divides n_q.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void head() override {
        const int br = a->br > 0 ? a->br : 32;
        for (int t = 0; t < a->n_q / br; t++) // wrong: rounds down
            for (i = t * br; i < (t + 1) * br; i++)
                row();
    }
};

GPT149_KERNEL({"tail_queries_unwritten", "br queries a tile, n_q / br tiles", "n_kv", one_row,
               run<Wrong>})
