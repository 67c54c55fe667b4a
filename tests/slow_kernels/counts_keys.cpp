// cause: atomics
// Threads share a counter, and raise it at each key.
#include "../kernel_parts/each_key.h"

static int64_t keys_done;

struct Slow : EachKey<Slow> {
    void key() {
#pragma omp atomic
        keys_done++;
    }
};
GPT149_KERNEL({"counts_keys", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
