// cause: sinks_scaled
// says: scale
// The sink is scaled as if it were a product.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float sink() override { return a->scale * gpt149_sink(a, h); } // wrong: unscaled
};

GPT149_KERNEL({"sink_scaled", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_SINKS})
