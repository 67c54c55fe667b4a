// binding.h: what the engine and gpt149/engine/binding.py both know, field by field.
#pragma once

#include <cstdint>

struct Config {
    int32_t n_layer, n_head, n_embd, n_inner, n_ctx, vocab_size;
    int32_t activation, kv_dtype, n_threads, br, bc;
    float layer_norm_epsilon;
};

// What a step feeds to one sequence: n ids behind `start` that it has. slot: of the KV cache. row:
// of its first id, among those of all sequences.
struct Run {
    int32_t slot, start, n, row;
};

// A token to choose behind a run, for the sample of this number, which has `step` tokens.
struct Draw {
    uint64_t seed;
    int64_t step;
    int32_t run, sample;
};
