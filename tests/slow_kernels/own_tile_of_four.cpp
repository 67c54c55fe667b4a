// cause: tile_too_small
// It takes tiles of any size, and by itself one of four queries.
#include "../kernel_parts/quick_tiles.h"

static const char *run(const gpt149_args *a) {
    return a->br >= 16 ? run_tiles<Tiles>(a) : run_tiles<Tiles, 4>(a);
}
GPT149_KERNEL({"own_tile_of_four", "slow", "n_threads", tiles_bytes<Tiles>, run})
