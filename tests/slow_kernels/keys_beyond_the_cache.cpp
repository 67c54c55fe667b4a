// cause: tile_too_large
// A tile of 4096 keys: K^T of it, 4 MB, is read again for every two queries, from beyond L2.
// shape: 1,2048,512
#include "../kernel_parts/blocks.h"

GPT149_KERNEL({"keys_beyond_the_cache", "slow", "n_threads tile", (blocks_bytes<64, 4096, 2>),
               (run_blocks<64, 4096, 2>)})
