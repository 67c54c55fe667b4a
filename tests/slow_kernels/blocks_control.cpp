// cause: nothing
// The parts of blocks.h, in tiles that stay in a cache.
#include "../kernel_parts/blocks.h"

GPT149_KERNEL({"blocks_control", "slow", "n_threads", (blocks_bytes<64, 256>),
               (run_blocks<64, 256>)})
