// threads.h: the rows of all batches and heads dealt out to n_threads threads, each with a row of
// scores of its own. See rows.h.
#pragma once

#include "rows.h"

#include <thread>
#include <vector>

struct Dealt : Rows {
    int thread;

    float *scores() override { return (float *)a->workspace + (int64_t)thread * a->n_kv; }
    int64_t n_rows() { return (int64_t)a->batch * a->n_head * a->n_q; }
    // The rows of a thread are those from first(thread) to first(thread + 1).
    virtual int64_t first(int t) { return n_rows() * t / a->n_threads; }
    void call() override {
        for (int64_t r = first(thread); r < first(thread + 1); r++) {
            b = r / a->n_q / a->n_head;
            h = r / a->n_q % a->n_head;
            i = r % a->n_q;
            row();
        }
    }
};

template <class Kernel> const char *run_threads(const gpt149_args *a) {
    std::vector<std::thread> team;
    for (int t = 0; t < a->n_threads; t++)
        team.emplace_back([=] {
            Kernel kernel;
            kernel.a = a;
            kernel.thread = t;
            kernel.call();
        });
    for (std::thread &one : team)
        one.join();
    return nullptr;
}
inline int64_t row_a_thread(const gpt149_args *a) {
    return a->n_threads * one_row(a);
}
