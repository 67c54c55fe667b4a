// cause: none
// Flash attention, one query and bc keys a tile.
#include "../kernel_parts/tiles.h"

GPT149_KERNEL({"key_tiles", "bc keys a tile", "bc", one_tile, run<Tiles>})
