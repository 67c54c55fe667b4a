// cause: sinks_of_another_head
// says: another head
// The sink of a query head is looked up by its key head.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    float sink() override {
        return gpt149_sink(a, h / (a->n_head / a->n_kv_head)); // wrong: h
    }
};

GPT149_KERNEL({"sink_of_key_head", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_SINKS})
