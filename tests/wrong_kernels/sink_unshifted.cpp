// cause: sinks_unshifted
// says: maximum
// exp(sink) is added to a sum of exp(s - m).
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float top() override { return -INFINITY; }
    float of_sink() override { return std::exp(sink()); } // wrong: sink - m
};

GPT149_KERNEL({"sink_unshifted", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_SINKS})
