// cause: race
// says: thread
// Threads share one pair of m and l, and one row of scores.
#include "../kernel_parts/threads.h"

static float *shared_row(const gpt149_args *a) {
    return (float *)a->workspace;
}

struct Wrong : Dealt {
    float *scores() override { return shared_row(a); } // wrong: a row for each thread
};

GPT149_KERNEL({"rows_a_thread_overlap", "rows dealt to threads; one row of scores", "n_kv", one_row,
               run_threads<Wrong>})
