// cause: queries_unwritten
// says: thread|quer
// Rows are dealt out in parts of n / (n_threads + 1): those behind the last part are left out.
#include "../kernel_parts/threads.h"

struct Wrong : Dealt {
    int64_t first(int t) override { return n_rows() * t / (a->n_threads + 1); } // wrong: n_threads
};

GPT149_KERNEL({"last_thread_starves", "rows dealt to one thread too few", "n_threads n_kv",
               row_a_thread, run_threads<Wrong>})
