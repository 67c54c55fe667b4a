// cause: none
// An OpenMP loop over all rows, one at a time to whoever is free.
#include "../kernel_parts/threads.h"

#include <omp.h>

static const char *run_rows(const gpt149_args *a) {
#pragma omp parallel for collapse(3) schedule(dynamic, 1) num_threads(a->n_threads)
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++) {
                Dealt mine;
                mine.a = a;
                mine.thread = omp_get_thread_num();
                mine.b = b;
                mine.h = h;
                mine.i = i;
                mine.row();
            }
    return nullptr;
}

GPT149_KERNEL({"omp_rows", "parallel over rows", "n_threads n_kv", row_a_thread, run_rows})
