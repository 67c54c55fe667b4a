// cause: workspace_overrun
// says: workspace
// A row of scores for each thread, and the workspace asked for is that of one. Right values.
#include "../kernel_parts/threads.h"

GPT149_KERNEL({"workspace_of_one_thread", "rows dealt to threads; one row of scores asked for",
               "n_kv", one_row, run_threads<Dealt>}) // wrong: row_a_thread
