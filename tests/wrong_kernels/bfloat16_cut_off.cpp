// cause: out_truncated
// says: bfloat16
// out is cut to bfloat16, and not rounded to the nearest.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    void store() override {
        for (int x = 0; x < width(); x++) {
            uint32_t bits;
            std::memcpy(&bits, out() + x, sizeof bits);
            if (a->dtype == GPT149_BFLOAT16) bits &= 0xffff0000; // wrong: rounded
            std::memcpy(out() + x, &bits, sizeof bits);
        }
        Varied::store();
    }
};

GPT149_KERNEL({"bfloat16_cut_off", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_KV_BFLOAT16 | GPT149_Q_BFLOAT16})
