// cause: atomics
// A lock, taken at each key.
#include "../kernel_parts/each_key.h"

static int64_t keys_done;

struct Slow : EachKey<Slow> {
    void key() {
#pragma omp critical
        keys_done++;
    }
};
GPT149_KERNEL({"lock_a_key", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
