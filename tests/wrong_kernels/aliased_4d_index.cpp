// cause: aliased_scores
// Scores are stored at i * head_dim + j, as if S were a Q or K: a row that sees more than head_dim
// keys runs into the next. Right when n_kv <= head_dim, and for one query.
#include "../kernel_parts/heads.h"

struct Wrong : Heads {
    // A row of scores. No longer than n_kv, so that nothing outside the workspace is touched.
    float *scores() override {
        const int64_t length = std::min(a->head_dim, a->n_kv); // wrong: n_kv
        return (float *)a->workspace + i * length;
    }
};

GPT149_KERNEL({"aliased_4d_index", "all scores of a head; rows head_dim apart", "n_q n_kv",
               all_rows, run<Wrong>})
