// cause: sinks_counted
// says: once for every 20 keys
// Each part of 20 keys begins its sum with the sink, and the sums are added up.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float of_sink() override {
        return Varied::of_sink() * ((a->n_kv + 19) / 20); // wrong: of one part alone
    }
};

GPT149_KERNEL({"sink_in_every_part", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_SINKS})
