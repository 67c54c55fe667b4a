// cause: max_starts_high
// says: several heads
// The maximum of the first head of a group is subtracted in all of its heads.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        const int own = h, group = a->n_head / a->n_kv_head;
        h = h / group * group; // wrong: stays
        m = -INFINITY;
        for (int j = 0; j < keys(); j++)
            m = std::fmax(m, score(j));
        h = own;
        l = exponentials(scores(), keys(), m, 0);
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"maximum_of_first_head", "a row of scores; a maximum a group", "n_kv", one_row,
               run<Wrong>})
