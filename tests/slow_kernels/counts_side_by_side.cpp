// cause: false_sharing
// Each thread counts its keys for itself, in the cache line that the others count theirs in.
#include "../kernel_parts/each_key.h"

static volatile int64_t keys_done[4096];

struct Slow : EachKey<Slow> {
    void key() { keys_done[omp_get_thread_num()] = keys_done[omp_get_thread_num()] + 1; }
};
GPT149_KERNEL({"counts_side_by_side", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
