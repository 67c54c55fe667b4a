// cause: none
// K transposed, so that neighbouring scores are computed side by side.
#include "../kernel_parts/packed.h"

GPT149_KERNEL({"packed", "K packed", "head_dim n_kv", row_and_panel, run<Packed>})
