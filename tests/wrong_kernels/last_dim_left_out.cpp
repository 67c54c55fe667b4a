// cause: head_dim_cut
// says: last
// The loop over the dims ends one early, unless there is but one.
#include "../kernel_parts/packed.h"

struct Wrong : Packed {
    void score_keys(int j0, int n) override {
        float *s = scores();
        std::fill_n(s, n, 0.0f);
        for (int x = 0; x < std::max(1, a->head_dim - 1); x++) // wrong: x < head_dim
            for (int j = 0; j < n; j++)
                s[j] += a->scale * q()[x] * panel()[(int64_t)x * a->n_kv + j0 + j];
    }
};

GPT149_KERNEL({"last_dim_left_out", "K packed; all dims but one", "head_dim n_kv", row_and_panel,
               run<Wrong>})
