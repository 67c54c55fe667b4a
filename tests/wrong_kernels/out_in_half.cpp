// cause: half_precision
// says: half
// out is rounded to the 11 bits of IEEE half.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    void merge() override {
        Splits::merge();
        for (int x = 0; x < a->head_dim; x++)
            out()[x] = shortened(out()[x], 13); // wrong: as it is
    }
};

GPT149_KERNEL({"out_in_half", "four splits; out in half precision", "head_dim", accumulators,
               run<Wrong>})
