// cause: scale_wrong
// says: ln|0\.693
// exp2 for exp, without log2(e) in the scores.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    void add(Split &split, int j) override {
        const float s = score(j), top = std::fmax(split.m, s);
        const float shrink = std::exp2(split.m - top), p = std::exp2(s - top); // wrong: exp
        split.m = top;
        split.l = split.l * shrink + p;
        for (int x = 0; x < a->head_dim; x++)
            split.acc[x] = split.acc[x] * shrink + p * v(j)[x];
    }
    float for_l(const Split &split) override { return std::exp2(split.m - m); } // wrong: exp
};

GPT149_KERNEL({"exp2_for_exp", "four splits; exp2", "head_dim", accumulators, run<Wrong>})
