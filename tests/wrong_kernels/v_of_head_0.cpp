// cause: v_owner
// says: head
// V is read as if there were one key head, K is right. Right for one.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    const float *v(int j) override { return gpt149_v(a, b, 0, j); } // wrong: h
};

GPT149_KERNEL({"v_of_head_0", "bc keys a tile; V of head 0", "bc", one_tile, run<Wrong>})
