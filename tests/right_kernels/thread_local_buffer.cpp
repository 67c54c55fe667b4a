// cause: none
// Scores in a buffer of the calling thread, which grows and is kept.
#include "../kernel_parts/rows.h"

#include <vector>

static thread_local std::vector<float> buffer;

struct Right : Rows {
    float *scores() override {
        if ((int)buffer.size() < a->n_kv) buffer.resize(a->n_kv);
        return buffer.data();
    }
};

static int64_t workspace_bytes(const gpt149_args *) {
    return 0;
}

GPT149_KERNEL({"thread_local_buffer", "a row of scores for each thread, kept", "n_kv",
               workspace_bytes, run<Right>})
