// cause: none
// All scores of a head in memory before the first is used.
#include "../kernel_parts/heads.h"

GPT149_KERNEL({"all_scores", "all scores of a head", "n_q n_kv", all_rows, run<Heads>})
