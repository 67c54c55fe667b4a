// cause: lse_before_sinks
// says: before.*sink
// The sum is stored before the sink is added to it.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float of_sink() override {
        before = m + std::log(l);
        return Varied::of_sink();
    }
    float before = 0;
    float lse() override { return before; } // wrong: with the sink
};

GPT149_KERNEL({"lse_before_sink", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_LSE | GPT149_SINKS})
