// cause: q_owner
// says: uses the q of query
// Of four queries at a time the last uses the q of the one before.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *q() override { return gpt149_q(a, b, h, i % 4 == 3 ? i - 1 : i); } // wrong: i
};

GPT149_KERNEL({"fourth_query_is_third", "a row of scores; four queries at a time", "n_kv", one_row,
               run<Wrong>})
