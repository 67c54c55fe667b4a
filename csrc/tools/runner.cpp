// runner: calls a kernel once, in a process of its own, with every tensor in an allocation of
// exactly its size. For the sanitizers: what they report carries the kernel's own file and line.
//
// Linked with a kernel file, whose table it reads.
// Arguments: the kernel's name. Standard input: gpt149_args, in which pointers to what the call has
// are not NULL; then its inputs, in the order of the struct, each from its first to its last
// element.
#include "gpt149.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#ifdef __linux__
#include <csignal>
#include <sys/prctl.h>
#endif

extern "C" const gpt149_table gpt149_kernels;

// Floats from the first to the last element of a tensor of rows of `width`.
static int64_t span(int batch, int n_head, int n, int width, const int64_t *stride, int32_t dtype) {
    const int64_t n_elements =
        (batch - 1) * stride[0] + (n_head - 1) * stride[1] + (n - 1) * stride[2] + width;
    return dtype == GPT149_BFLOAT16 ? (n_elements + 1) / 2 : n_elements; // two in the room of one
}

// Exactly n floats: allocations of other sizes would hide the first step outside.
static float *allocate(int64_t n) {
    float *memory = (float *)std::malloc(n * sizeof(float));
    std::memset(memory, 0xff, n * sizeof(float)); // NaN
    return memory;
}

static const void *receive(int64_t n) {
    float *memory = allocate(n);
    if (std::fread(memory, sizeof(float), n, stdin) != (size_t)n) std::exit(3);
    return memory;
}

int main(int, char **argv) {
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL); // who waits for us may be killed
#endif
    gpt149_args a;
    if (std::fread(&a, sizeof a, 1, stdin) != 1) return 3;
    for (int i = 0; i < gpt149_kernels.n_kernels; i++) {
        const gpt149_kernel &kernel = gpt149_kernels.kernels[i];
        if (std::strcmp(kernel.name, argv[1]) != 0) continue;
        gpt149_args bare = a;
        bare.q = bare.k = bare.v = bare.out = bare.workspace = nullptr;
        bare.alibi_slopes = bare.sinks = bare.lse = nullptr, bare.kv_begin = nullptr;
        const int64_t n_bytes = kernel.workspace_bytes(&bare);
        const int d = a.head_dim, d_v = gpt149_head_dim_v(&a);
        a.q = receive(span(a.batch, a.n_head, a.n_q, d, a.q_stride, a.dtype));
        a.k = receive(span(a.batch, a.n_kv_head, a.n_kv, d, a.k_stride, a.kv_dtype));
        a.v = receive(span(a.batch, a.n_kv_head, a.n_kv, d_v, a.v_stride, a.kv_dtype));
        if (a.alibi_slopes) a.alibi_slopes = (const float *)receive(a.n_head);
        if (a.sinks) a.sinks = (const float *)receive(a.n_head);
        if (a.kv_begin) a.kv_begin = (const int32_t *)receive(a.batch);
        a.out = allocate(span(a.batch, a.n_head, a.n_q, d_v, a.out_stride, a.dtype));
        const int64_t rows[] = {a.lse_stride[0], a.lse_stride[1], 1};
        if (a.lse) a.lse = allocate(span(a.batch, a.n_head, a.n_q, 1, rows, GPT149_FLOAT32));
        // Exactly as large as asked for, too.
        if (posix_memalign(&a.workspace, 64, n_bytes > 0 ? n_bytes : 1) != 0) return 3;
        std::memset(a.workspace, 0xff, n_bytes);
        const char *why = kernel.run(&a);
        if (why) std::fprintf(stderr, "declined: %s\n", why);
        return why ? 4 : 0;
    }
    return 3;
}
