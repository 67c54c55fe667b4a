// runner: calls a kernel once, in a process of its own, with every tensor in an allocation of
// exactly its size. For the sanitizers: what they report carries the kernel's own file and line.
//
// Built with -DKERNEL_FILE="...": the kernel's source is part of this translation unit.
// Arguments: the kernel's name. Standard input: gpt149_args without pointers, then q, k and v, each
// from its first to its last element.
#include KERNEL_FILE

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#ifdef __linux__
#include <csignal>
#include <sys/prctl.h>
#endif

static int64_t span(int batch, int n_head, int n, int head_dim, const int64_t *stride) {
    return (batch - 1) * stride[0] + (n_head - 1) * stride[1] + (n - 1) * stride[2] + head_dim;
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
        const int64_t n_bytes = kernel.workspace_bytes(&a);
        a.q = receive(span(a.batch, a.n_head, a.n_q, a.head_dim, a.q_stride));
        const bool half = a.kv_dtype == GPT149_BFLOAT16; // two in the room of a float
        for (auto [to, stride] : {std::pair(&a.k, a.k_stride), std::pair(&a.v, a.v_stride)}) {
            const int64_t n = span(a.batch, a.n_kv_head, a.n_kv, a.head_dim, stride);
            *to = receive(half ? (n + 1) / 2 : n);
        }
        a.out = allocate(span(a.batch, a.n_head, a.n_q, a.head_dim, a.out_stride));
        // Exactly as large as asked for, too.
        if (posix_memalign(&a.workspace, 64, n_bytes > 0 ? n_bytes : 1) != 0) return 3;
        std::memset(a.workspace, 0xff, n_bytes);
        const char *why = kernel.run(&a);
        if (why) std::fprintf(stderr, "declined: %s\n", why);
        return why ? 4 : 0;
    }
    return 3;
}
