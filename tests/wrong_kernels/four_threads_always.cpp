// cause: n_threads_ignored
// says: threads work
// Four threads, whatever n_threads says, for which the workspace is made.
#include "../kernel_parts/threads.h"

static const char *run_four(const gpt149_args *a) {
    gpt149_args four = *a;
    four.n_threads = 4; // wrong: as the host says
    return run_threads<Dealt>(&four);
}

GPT149_KERNEL({"four_threads_always", "rows dealt to four threads", "n_threads n_kv", row_a_thread,
               run_four})
