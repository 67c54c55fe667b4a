// cause: nothing
// The parts of tiles.h as they are.
#include "../kernel_parts/quick_tiles.h"

GPT149_KERNEL({"quick_control", "slow", "n_threads", tiles_bytes<Tiles>, run_tiles<Tiles>})
