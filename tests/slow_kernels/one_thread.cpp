// cause: single_thread
// It does not look at n_threads.
#include "../kernel_parts/quick_tiles.h"

static const char *run(const gpt149_args *a) {
    gpt149_args alone = *a;
    alone.n_threads = 1;
    return run_tiles<Tiles>(&alone);
}
GPT149_KERNEL({"one_thread", "slow", "n_threads", tiles_bytes<Tiles>, run})
