// cause: declines
// Declines every call.
#include "gpt149.h"

static int64_t workspace_bytes(const gpt149_args *) {
    return 0;
}

static const char *run(const gpt149_args *) {
    return "not today"; // wrong: no call is ever computed
}

GPT149_KERNEL({"declines", "declines every call", "1", workspace_bytes, run})
