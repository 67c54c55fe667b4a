// cause: race
// Rows are shared out over the threads, which all write their scores to the same row of the
// workspace. Right with one thread.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float *scores() override { return (float *)a->workspace; } // wrong: a row for each thread
    void call() override {
#pragma omp parallel for collapse(3) schedule(dynamic, 4) num_threads(a->n_threads)
        for (int batch = 0; batch < a->batch; batch++)
            for (int head = 0; head < a->n_head; head++)
                for (int query = 0; query < a->n_q; query++) {
                    Wrong mine;
                    mine.a = a;
                    mine.b = batch;
                    mine.h = head;
                    mine.i = query;
                    mine.row();
                }
    }
};

GPT149_KERNEL({"shared_row",
               "one row of scores for all threads, parallel over batch x head x query", "n_kv",
               one_row, run<Wrong>})
