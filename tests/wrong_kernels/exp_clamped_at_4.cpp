// cause: exp_clamped
// says: \b4\b
// A table of exp that ends at -4: what is lower gets its last entry.
#include "../kernel_parts/packed.h"

struct Wrong : Packed {
    void softmax() override {
        m = highest(scores(), keys());
        for (int j = 0; j < keys(); j++)
            scores()[j] = std::fmax(scores()[j], m - 4); // wrong: as it is
        l = exponentials(scores(), keys(), m, 0);
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"exp_clamped_at_4", "K packed; exp from -4 on", "head_dim n_kv", row_and_panel,
               run<Wrong>})
