// cause: half_precision
// says: bfloat16
// K is rounded to bfloat16 when it is packed.
#include "../kernel_parts/packed.h"

struct Wrong : Packed {
    void pack() override {
        Packed::pack();
        for (int64_t e = 0; e < (int64_t)a->n_kv * a->head_dim; e++)
            panel()[e] = shortened(panel()[e], 16); // wrong: as it is
    }
};

GPT149_KERNEL({"keys_in_bf16", "K packed in bfloat16", "head_dim n_kv", row_and_panel, run<Wrong>})
