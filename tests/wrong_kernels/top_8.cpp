// cause: top_k
// says: \b8\b
// Only the eight highest scores of a row count. Right where a query sees no more.
#include "../kernel_parts/rows.h"

#include <functional>
#include <vector>

struct Wrong : Rows {
    void softmax() override {
        const int k = 8;
        if (keys() > k) {
            std::vector<float> sorted(scores(), scores() + keys());
            std::nth_element(sorted.begin(), sorted.begin() + k - 1, sorted.end(),
                             std::greater<float>());
            for (int j = 0; j < keys(); j++)
                if (scores()[j] < sorted[k - 1]) scores()[j] = -INFINITY; // wrong: as it is
        }
        Rows::softmax();
    }
};

GPT149_KERNEL({"top_8", "a row of scores; the eight highest", "n_kv", one_row, run<Wrong>})
