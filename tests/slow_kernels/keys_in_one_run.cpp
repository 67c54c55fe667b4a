// cause: decode_not_split
// Heads and queries are shared out; of a decode step with one head, that is a single row.
// shape: 1,1x16384,64
#include "../kernel_parts/dot_tiles.h"

GPT149_KERNEL({"keys_in_one_run", "slow", "n_threads", tiles_bytes<DotTiles>, run_tiles<DotTiles>})
