// cause: sinks_ignored
// says: sink.*ignored
// Claims sinks, and softmaxes the keys alone.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float sink() override { return -INFINITY; } // wrong: a->sinks[h]
};

GPT149_KERNEL({"claims_sinks", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_SINKS})
