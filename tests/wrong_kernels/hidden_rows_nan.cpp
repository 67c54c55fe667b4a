// cause: hidden_rows_nan
// says: NaN
// A row without keys is divided by its sum, 0.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    void store() override {
        divide(out(), width(), l > 0 ? 1 : l); // wrong: 0 / 0
        Varied::store();
    }
};

GPT149_KERNEL({"hidden_rows_nan", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_KV_BEGIN})
