// cause: max_wrong
// says: first|maximum
// What is subtracted is the score of the first key, for the maximum. Right while no score is more
// than 88 above it.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void softmax() override {
        l = exponentials(scores(), keys(), scores()[0], 0); // wrong: the highest
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"first_keys_score_as_maximum", "a row of scores; the first subtracted", "n_kv",
               one_row, run<Wrong>})
