// cause: q_owner
// says: quer|\bq\b
// Every head of a group uses the query of the group's first. Right without groups.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *q() override {
        const int size = a->n_head / a->n_kv_head;
        return gpt149_q(a, b, h / size * size, i); // wrong: h
    }
};

GPT149_KERNEL({"query_of_groups_first", "a row of scores; one query a group", "n_kv", one_row,
               run<Wrong>})
