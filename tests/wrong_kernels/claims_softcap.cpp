// cause: softcap_ignored
// says: softcap.*ignored
// Claims softcaps, and leaves the scores as they are.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float capped(int, float s) override { return s; } // wrong: tanh
};

GPT149_KERNEL({"claims_softcap", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_SOFTCAP})
