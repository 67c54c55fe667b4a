// cause: mask_wrong
// says: 1 key fewer|last|newest
// A decode step does not see the newest key, its own. Right for longer inputs.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    int keys() override {
        const int n = Splits::keys();
        return a->n_q == 1 && n > 1 ? n - 1 : n; // wrong: n
    }
};

GPT149_KERNEL({"decode_misses_new_key", "four splits; a decode step without its own key",
               "head_dim", accumulators, run<Wrong>})
