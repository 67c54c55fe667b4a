// cause: queries_unwritten
// says: head|thread
// A head a thread: heads beyond the number of threads are never computed.
#include "../kernel_parts/threads.h"

struct Wrong : Dealt {
    void call() override {
        h = thread; // wrong: and every n_threads-th behind it
        if (h >= a->n_head) return;
        for (b = 0; b < a->batch; b++)
            head();
    }
};

GPT149_KERNEL({"head_a_thread", "one head for each thread", "n_threads n_kv", row_a_thread,
               run_threads<Wrong>})
