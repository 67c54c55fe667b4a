// cause: v_address
// says: \bV\b
// V's dims are exchanged in pairs, as interleaved halves are when they are not put back.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    void merge() override {
        Splits::merge();
        for (int x = 0; x + 1 < a->head_dim; x += 2)
            std::swap(out()[x], out()[x + 1]); // wrong: as they are
    }
};

GPT149_KERNEL({"v_dims_in_pairs", "four splits; dims in pairs", "head_dim", accumulators,
               run<Wrong>})
