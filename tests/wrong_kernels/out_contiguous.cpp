// cause: strides_ignored
// Ignores the strides of out alone: writes it as a contiguous (batch, head, token, dim). Right
// when it is.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float *out() override {
        const int64_t row = ((int64_t)b * a->n_head + h) * a->n_q + i;
        return (float *)a->out + row * a->head_dim; // wrong: gpt149_out(a, b, h, i)
    }
};

GPT149_KERNEL({"out_contiguous", "a row of scores; out taken to be contiguous", "n_kv", one_row,
               run<Wrong>})
