// cause: k_owner
// says: head
// K of the key head behind its own, of the last that of the first. Right for one key head.
#include "../kernel_parts/query_tiles.h"

struct Wrong : QueryTiles {
    const float *k(int j) override {
        const int size = a->n_head / a->n_kv_head;
        return gpt149_k(a, b, (h + size) % a->n_head, j); // wrong: h
    }
};

GPT149_KERNEL({"k_of_next_head", "br x bc tiles; the next head's K", "br bc", one_query_tile,
               run<Wrong>})
