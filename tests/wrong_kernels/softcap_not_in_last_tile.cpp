// cause: softcap_left_out
// says: last tile
// The last tile of 32 keys has a path of its own, without softcap.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float capped(int j, float s) override {
        return j < (a->n_kv - 1) / 32 * 32 ? Varied::capped(j, s) : s; // wrong: for the last
    }
};

GPT149_KERNEL({"softcap_not_in_last_tile", "a row of scores; a mistake in a variant", "n_kv",
               one_row, run<Wrong>, GPT149_SOFTCAP})
