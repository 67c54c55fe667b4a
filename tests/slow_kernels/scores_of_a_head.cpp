// cause: scores_through_memory
// All scores of a head, then all its weights, then all its outputs.
// shape: 2,4096,16
#include "../kernel_parts/blocks.h"

constexpr int64_t ALL = 1 << 20;
GPT149_KERNEL({"scores_of_a_head", "slow", "n_q n_kv", (blocks_bytes<ALL, ALL>),
               (run_blocks<ALL, ALL>)})
