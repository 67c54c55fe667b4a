// cause: none
// Flash attention, br queries and bc keys a tile.
#include "../kernel_parts/query_tiles.h"

GPT149_KERNEL({"query_tiles", "br x bc tiles", "br bc", one_query_tile, run<QueryTiles>})
