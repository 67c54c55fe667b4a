// cause: none
// An OpenMP task for each head, made by one thread and done by all.
#include "../kernel_parts/threads.h"

#include <omp.h>

static const char *run_tasks(const gpt149_args *a) {
#pragma omp parallel num_threads(a->n_threads)
#pragma omp single
    for (int bh = 0; bh < a->batch * a->n_head; bh++)
#pragma omp task firstprivate(bh)
    {
        Dealt mine;
        mine.a = a;
        mine.thread = omp_get_thread_num();
        mine.b = bh / a->n_head;
        mine.h = bh % a->n_head;
        mine.head();
    }
    return nullptr;
}

GPT149_KERNEL({"omp_tasks", "a task for each head", "n_threads n_kv", row_a_thread, run_tasks})
