// cause: n_threads_ignored
// The workspace has a row of scores for each of n_threads, the team is OpenMP's default one.
#include "../kernel_parts/rows.h"

#include <omp.h>

struct Wrong : Rows {
    float *scores() override {
        return (float *)a->workspace + (int64_t)omp_get_thread_num() * a->n_kv;
    }
};

static int64_t rows_of_team(const gpt149_args *a) {
    return a->n_threads * one_row(a);
}

static const char *run_as_team(const gpt149_args *a) {
#pragma omp parallel for collapse(2) schedule(static, 1) // wrong: num_threads(a->n_threads)
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++) {
            Wrong one;
            one.a = a, one.b = b, one.h = h;
            one.head();
        }
    return nullptr;
}

GPT149_KERNEL({"default_team", "a row a thread", "n_threads n_kv", rows_of_team, run_as_team})
