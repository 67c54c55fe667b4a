// cause: queries_unwritten
// At most 4 batches are worked on.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void call() override {
        for (b = 0; b < std::min(a->batch, 4); b++) // wrong: all of them
            for (h = 0; h < a->n_head; h++)
                head();
    }
};

GPT149_KERNEL({"batch_max_4", "a row of scores; 4 batches", "n_kv", one_row, run<Wrong>})
