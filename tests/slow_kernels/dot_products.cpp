// cause: horizontal_sums
// Lanes are head_dim, so that each score ends in adding up a vector.
#include "../kernel_parts/dot_tiles.h"

GPT149_KERNEL({"dot_products", "slow", "n_threads", tiles_bytes<DotTiles>, run_tiles<DotTiles>})
