// cause: spills
// 24 rows of 32 scores are summed up at once: half as many vectors again as there are registers.
#include "../kernel_parts/blocks.h"

GPT149_KERNEL({"sums_on_the_stack", "slow", "n_threads", (blocks_bytes<96, 256, 24>),
               (run_blocks<96, 256, 24>)})
