// empty: a kernel that computes nothing. Where this one cannot be built, loaded, called or run
// under the sanitizers, it is the machine's fault and not another kernel's.
#include "gpt149.h"

static int64_t workspace_bytes(const gpt149_args *) {
    return 0;
}

static const char *run(const gpt149_args *) {
    return nullptr;
}

GPT149_KERNEL({"empty", "nothing", "1", workspace_bytes, run})
