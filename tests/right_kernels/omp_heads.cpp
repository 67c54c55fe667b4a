// cause: none
// An OpenMP loop over batches and heads, dealt out beforehand.
#include "../kernel_parts/threads.h"

#include <omp.h>

static const char *run_heads(const gpt149_args *a) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(a->n_threads)
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++) {
            Dealt mine;
            mine.a = a;
            mine.thread = omp_get_thread_num();
            mine.b = b;
            mine.h = h;
            mine.head();
        }
    return nullptr;
}

GPT149_KERNEL({"omp_heads", "parallel over heads", "n_threads n_kv", row_a_thread, run_heads})
