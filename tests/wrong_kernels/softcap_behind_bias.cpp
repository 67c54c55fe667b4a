// cause: softcap_behind_bias
// says: behind the bias
// The bias is added before the scores are capped.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float score(int j) override {
        return capped(j, biased(j, a->scale * product(j))); // wrong: biased(capped())
    }
};

GPT149_KERNEL({"softcap_behind_bias", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_SOFTCAP | GPT149_ALIBI})
