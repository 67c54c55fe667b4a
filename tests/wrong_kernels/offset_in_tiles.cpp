// cause: mask_wrong
// says: offset|rounded down|multiple of
// The offset of the mask, n_kv - n_q, is counted in whole tiles of keys. Right for a prefill.
#include "../kernel_parts/query_tiles.h"

struct Wrong : QueryTiles {
    bool sees(int j) override {
        const int shift = (a->n_kv - a->n_q) / bc() * bc(); // wrong: n_kv - n_q
        return !a->causal || j <= i + shift;
    }
};

GPT149_KERNEL({"offset_in_tiles", "br x bc tiles; the offset rounded down", "br bc", one_query_tile,
               run<Wrong>})
