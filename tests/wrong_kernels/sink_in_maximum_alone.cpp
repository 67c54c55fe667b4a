// cause: sinks_in_maximum_alone
// says: maximum.*not in
// The sink raises the maximum, and is in no sum.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float of_sink() override { return 0; } // wrong: exp(sink - m)
};

GPT149_KERNEL({"sink_in_maximum_alone", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_SINKS})
