// cause: softcap_ignored
// says: n_q = 1|decode
// The path for one query knows no softcap.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float capped(int j, float s) override {
        return a->n_q == 1 ? s : Varied::capped(j, s); // wrong: for one query
    }
};

GPT149_KERNEL({"softcap_not_for_decode", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_SOFTCAP})
