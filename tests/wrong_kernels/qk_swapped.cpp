// cause: qk_swapped
// S = K Q^T: the score of query i and key j is q_j . k_i, the indexes clamped where n_q and n_kv
// differ. Right when n_kv is 1.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        const float *query = gpt149_q(a, b, h, std::min(j, a->n_q - 1)); // wrong: of i
        const float *key = k(std::min(i, a->n_kv - 1));                  // wrong: of j
        return a->scale * dot(query, key, a->head_dim);
    }
};

GPT149_KERNEL({"qk_swapped", "a row of scores; S = K Q^T", "n_kv", one_row, run<Wrong>})
