// cause: lse_strides
// says: strides
// lse is taken to be contiguous.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    void store() override {
        Varied::store();
        if (!a->lse) return;
        const int64_t row = ((int64_t)b * a->n_head + h) * a->n_q + i;
        a->lse[row] = Varied::lse(); // wrong: its strides
    }
    void call() override {
        gpt149_args own = *a;
        own.lse_stride[1] = a->n_q, own.lse_stride[0] = (int64_t)a->n_head * a->n_q;
        a = &own;
        Varied::call();
    }
};

GPT149_KERNEL({"lse_contiguous", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_LSE})
