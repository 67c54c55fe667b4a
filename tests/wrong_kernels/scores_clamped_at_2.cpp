// cause: scores_clamped
// says: clamp|saturat|cap
// Scores are clamped to -2 .. 2 before the softmax. Right for small ones.
#include "../kernel_parts/packed.h"

struct Wrong : Packed {
    void score_keys(int j0, int n) override {
        Packed::score_keys(j0, n);
        for (int j = 0; j < n; j++)
            scores()[j] = std::fmin(std::fmax(scores()[j], -2.0f), 2.0f); // wrong: as it is
    }
};

GPT149_KERNEL({"scores_clamped_at_2", "K packed; scores clamped", "head_dim n_kv", row_and_panel,
               run<Wrong>})
