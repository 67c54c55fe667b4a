// cause: hidden_rows_unwritten
// says: never written
// Rows without keys are skipped.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    void store() override {
        if (first() < keys()) Varied::store(); // wrong: zeros else
    }
};

GPT149_KERNEL({"hidden_rows_skipped", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_KV_BEGIN})
