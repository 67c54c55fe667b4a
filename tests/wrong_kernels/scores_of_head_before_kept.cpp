// cause: scores_accumulated
// says: cleared
// Scores are added to what the buffer holds, and it is cleared for the first head of a call alone:
// the others find the weights of the head before in it. Right without a mask, for one head.
#include "../kernel_parts/heads.h"

struct Wrong : Heads {
    void score_keys(int, int n) override {
        float *s = scores();
        if (b == 0 && h == 0) std::fill_n(s, n, 0.0f); // wrong: for any head
        for (int j = 0; j < n; j++)
            s[j] += score(j);
    }
};

GPT149_KERNEL({"scores_of_head_before_kept", "all scores of a head; added up", "n_q n_kv", all_rows,
               run<Wrong>})
