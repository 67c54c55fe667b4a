// cause: dtype_ignored
// says: bfloat16.*float32
// Claims queries in bfloat16, and writes floats to out.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    void store() override { // wrong: gpt149_store
        float *row = (float *)gpt149_row(a->out, GPT149_FLOAT32, a->out_stride, b, h, i);
        std::copy_n(out(), width(), row);
    }
};

GPT149_KERNEL({"claims_bfloat16", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_KV_BFLOAT16 | GPT149_Q_BFLOAT16})
