// cause: writes_outside
// says: behind|outside
// Rows of out are stored eight floats at a time, the last of them beyond head_dim. Right where 8
// divides head_dim.
#include "../kernel_parts/packed.h"

struct Wrong : Packed {
    void head() override {
        pack();
        for (i = 0; i < a->n_q; i++) {
            for (int x = 0; x < (a->head_dim + 7) / 8 * 8; x++) // wrong: x < head_dim
                out()[x] = 0;
            row();
        }
    }
};

GPT149_KERNEL({"stores_whole_vectors", "K packed; out cleared in eights", "head_dim n_kv",
               row_and_panel, run<Wrong>})
