// cause: none
// Scores in memory that the kernel allocates, and frees at the end of the call.
#include "../kernel_parts/rows.h"

#include <cstdlib>

struct Right : Rows {
    float *row_of_scores;
    float *scores() override { return row_of_scores; }
};

static int64_t workspace_bytes(const gpt149_args *) {
    return 0;
}

static const char *run_allocating(const gpt149_args *a) {
    Right kernel;
    kernel.a = a;
    kernel.row_of_scores = (float *)std::malloc(a->n_kv * sizeof(float));
    if (!kernel.row_of_scores) return "there is no memory for a row of scores";
    kernel.call();
    std::free(kernel.row_of_scores);
    return nullptr;
}

GPT149_KERNEL({"own_memory", "a row of scores from malloc", "n_kv", workspace_bytes,
               run_allocating})
