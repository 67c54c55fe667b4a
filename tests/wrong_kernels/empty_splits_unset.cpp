// cause: workspace_unset
// says: before decides
// A split without keys leaves its maximum and its sum as they were. They lie in the workspace.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    void row() override {
        float *kept = (float *)a->workspace + N * a->head_dim; // m and l of each split
        for (int s = 0; s < N; s++) {
            splits[s] = {-INFINITY, 0, (float *)a->workspace + s * a->head_dim};
            std::fill_n(splits[s].acc, a->head_dim, 0.0f);
            for (int j = first(s); j < end(s); j++)
                add(splits[s], j);
            if (first(s) == end(s)) continue; // wrong: the next two lines are for all
            kept[2 * s] = splits[s].m;
            kept[2 * s + 1] = splits[s].l;
        }
        for (int s = 0; s < N; s++) {
            splits[s].m = kept[2 * s];
            splits[s].l = kept[2 * s + 1];
        }
        merge();
    }
};

static int64_t with_sums(const gpt149_args *a) {
    return accumulators(a) + 2 * Splits::N * (int64_t)sizeof(float);
}

GPT149_KERNEL({"empty_splits_unset", "four splits; an empty one is left", "head_dim", with_sums,
               run<Wrong>})
