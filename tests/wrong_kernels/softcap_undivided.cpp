// cause: softcap_undivided
// says: tanh
// softcap tanh(s): the division is missing.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float capped(int, float s) override {
        return a->softcap > 0 ? a->softcap * std::tanh(s) : s; // wrong: s / softcap
    }
};

GPT149_KERNEL({"softcap_undivided", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_SOFTCAP})
