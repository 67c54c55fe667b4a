// cause: v_owner
// says: \bV\b
// V's head is h % n_kv_head; K's is right. Right when n_kv_head is 1 or n_head.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *v(int j) override {
        const int head = h % a->n_kv_head * (a->n_head / a->n_kv_head); // wrong: h
        return gpt149_v(a, b, head, j);
    }
};

GPT149_KERNEL({"v_head_interleaved", "a row of scores; V's heads interleaved", "n_kv", one_row,
               run<Wrong>})
