// cause: oversubscribed
// Eight threads, whatever n_threads is.
#include "../kernel_parts/quick_tiles.h"

static int64_t bytes(const gpt149_args *a) {
    return 8 * 4 * Tiles::floats(a);
}
static const char *run(const gpt149_args *a) {
    gpt149_args more = *a;
    more.n_threads = 8;
    return run_tiles<Tiles>(&more);
}
GPT149_KERNEL({"eight_threads", "slow", "1", bytes, run})
