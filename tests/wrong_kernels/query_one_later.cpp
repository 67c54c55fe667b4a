// cause: q_owner
// says: quer|\bq\b
// A row is computed with the query behind its own, the last with its own: a prefetch that is one
// step ahead.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    const float *q() override { return gpt149_q(a, b, h, std::min(i + 1, a->n_q - 1)); } // wrong: i
};

GPT149_KERNEL({"query_one_later", "two passes; the next query", "1", no_bytes, run<Wrong>})
