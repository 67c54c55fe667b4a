// cause: none
// Rows dealt out to n_threads threads of std::thread in equal parts, which may be empty.
#include "../kernel_parts/threads.h"

GPT149_KERNEL({"dealt_to_threads", "rows dealt to threads", "n_threads n_kv", row_a_thread,
               run_threads<Dealt>})
