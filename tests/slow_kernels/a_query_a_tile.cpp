// cause: tile_too_small
// K is transposed anew for each query.
#include "../kernel_parts/quick_tiles.h"

GPT149_KERNEL({"a_query_a_tile", "slow", "n_threads", tiles_bytes<Tiles>, run_tiles<Tiles, 1>})
