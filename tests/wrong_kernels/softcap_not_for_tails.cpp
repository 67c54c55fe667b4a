// cause: softcap_left_out
// says: behind whole vectors of 4 of what a query sees
// The keys that are left behind vectors of 4 have a loop of their own, without the softcap.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float capped(int j, float s) override {
        return j < keys() / 4 * 4 ? Varied::capped(j, s) : s; // wrong
    }
};

GPT149_KERNEL({"softcap_not_for_tails", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_SOFTCAP})
