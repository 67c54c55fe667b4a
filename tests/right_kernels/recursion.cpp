// cause: none
// The softmax over some keys is merged from those over their halves.
#include "../kernel_parts/rows.h"

#include <vector>

struct Partial {
    float m, l;
    std::vector<float> acc; // (head_dim)
};

struct Right : Rows {
    Partial over(int first, int n) {
        if (n == 1) return {score(first), 1, std::vector<float>(v(first), v(first) + a->head_dim)};
        Partial left = over(first, n / 2);
        const Partial right = over(first + n / 2, n - n / 2);
        const float top = std::fmax(left.m, right.m);
        const float c = std::exp(left.m - top), d = std::exp(right.m - top);
        for (int x = 0; x < a->head_dim; x++)
            left.acc[x] = c * left.acc[x] + d * right.acc[x];
        left.l = c * left.l + d * right.l;
        left.m = top;
        return left;
    }
    void row() override {
        const Partial all = over(0, keys());
        for (int x = 0; x < a->head_dim; x++)
            out()[x] = all.acc[x] / all.l;
    }
};

static int64_t workspace_bytes(const gpt149_args *) {
    return 0;
}

GPT149_KERNEL({"recursion", "halves of the keys, merged", "head_dim log n_kv", workspace_bytes,
               run<Right>})
