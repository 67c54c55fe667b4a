// cause: none
// Threads fetch the next row from an atomic counter, so that who computes what is left to chance.
#include "../kernel_parts/threads.h"

#include <atomic>

struct Right : Dealt {
    std::atomic<int64_t> *next;
    void call() override {
        for (int64_t r; (r = next->fetch_add(1)) < n_rows();) {
            b = r / a->n_q / a->n_head;
            h = r / a->n_q % a->n_head;
            i = r % a->n_q;
            row();
        }
    }
};

static const char *run_fetching(const gpt149_args *a) {
    std::atomic<int64_t> next{0};
    std::vector<std::thread> team;
    for (int t = 0; t < a->n_threads; t++)
        team.emplace_back([=, &next] {
            Right mine;
            mine.a = a;
            mine.thread = t;
            mine.next = &next;
            mine.call();
        });
    for (std::thread &one : team)
        one.join();
    return nullptr;
}

GPT149_KERNEL({"atomic_counter", "threads that fetch rows", "n_threads n_kv", row_a_thread,
               run_fetching})
