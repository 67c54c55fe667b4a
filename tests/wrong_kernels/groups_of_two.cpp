// cause: k_owner
// says: key head
// A group is taken to be two heads, whatever n_head / n_kv_head is. Right for that, and without
// groups.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    int group() override {
        return a->n_head == a->n_kv_head ? h : h / 2 % a->n_kv_head; // wrong: n_head / n_kv_head
    }
};

GPT149_KERNEL({"groups_of_two", "two passes; two heads a group", "1", no_bytes, run<Wrong>})
