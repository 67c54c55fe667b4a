// sampler: where a call of a kernel spends its time, and what it executes. Not a kernel: `gpt149
// profile` loads it beside one. Needs no privileges: signals come to the thread that calls.
//
// gpt149_sample_begin/end: a timer interrupts the thread; kept is where it was, and, if that is
// outside of the kernel, the place in the kernel that it was called from. gpt149_step: one call,
// an instruction at a time, with the registers before each (x86-64 alone can do that).
#include <csignal>
#include <cstdint>
#include <ctime>
#include <pthread.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

constexpr int SEARCHED = 512; // words of the stack, for where the kernel called from
constexpr int N_REGISTERS = 16;
constexpr long TRAP_FLAG = 0x100;

struct {
    uint64_t begin, end; // of the kernel's code
    uint64_t *rows;
    int64_t n, capacity;
    int64_t outside; // steps that were, which are not kept
    bool stepping;
} state;
timer_t timer;
const uint64_t *stack_end; // of the thread that calls

bool inside(uint64_t pc) {
    return state.begin <= pc && pc < state.end;
}

// The first word on the stack that may be a return address into the kernel; else 0.
uint64_t called_from(const ucontext_t *at) {
#if defined(__x86_64__)
    const uint64_t *top = (const uint64_t *)at->uc_mcontext.gregs[REG_RSP];
#else
    if (inside(at->uc_mcontext.regs[30])) return at->uc_mcontext.regs[30];
    const uint64_t *top = (const uint64_t *)at->uc_mcontext.sp;
#endif
    for (int i = 0; i < SEARCHED && top + i < stack_end; i++)
        if (inside(top[i])) return top[i];
    return 0;
}

uint64_t counter(const ucontext_t *at) {
#if defined(__x86_64__)
    return at->uc_mcontext.gregs[REG_RIP];
#else
    return at->uc_mcontext.pc;
#endif
}

void sampled(int, siginfo_t *, void *context) {
    if (state.n == state.capacity) return;
    const uint64_t pc = counter((ucontext_t *)context);
    uint64_t *row = state.rows + 2 * state.n++;
    row[0] = pc;
    row[1] = inside(pc) ? 0 : called_from((ucontext_t *)context);
}

#if defined(__x86_64__)
void stepped(int, siginfo_t *, void *context) {
    auto *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint64_t pc = registers[REG_RIP];
    const bool more = state.stepping && state.n + state.outside < state.capacity;
    if (more)
        registers[REG_EFL] |= TRAP_FLAG;
    else
        registers[REG_EFL] &= ~TRAP_FLAG;
    if (!more) return;
    if (!inside(pc)) {
        state.outside++;
        return;
    }
    uint64_t *row = state.rows + (1 + N_REGISTERS) * state.n++;
    row[0] = pc;
    constexpr int order[N_REGISTERS] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI,
                                        REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                        REG_R12, REG_R13, REG_R14, REG_R15};
    for (int i = 0; i < N_REGISTERS; i++)
        row[1 + i] = registers[order[i]];
}
#endif

void handle(int number, void (*by)(int, siginfo_t *, void *)) {
    struct sigaction action = {};
    action.sa_sigaction = by;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(number, &action, nullptr);
}

} // namespace

// rows: (capacity, 2). Returns 0, or -1 where there is no such timer.
EXPORTED int gpt149_sample_begin(uint64_t begin, uint64_t end, uint64_t *rows, int64_t capacity,
                                 int64_t nanoseconds) {
    state = {begin, end, rows, 0, capacity, 0, false};
    pthread_attr_t attributes;
    void *stack = nullptr;
    size_t n_bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &stack, &n_bytes);
        pthread_attr_destroy(&attributes);
    }
    stack_end = (const uint64_t *)((char *)stack + n_bytes);
    handle(SIGPROF, sampled);
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGPROF;
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer)) return -1;
    const itimerspec every = {{0, nanoseconds}, {0, nanoseconds}};
    return timer_settime(timer, 0, &every, nullptr);
}

// How many rows were filled.
EXPORTED int64_t gpt149_sample_end() {
    timer_delete(timer);
    state.capacity = state.n; // for a signal that is still on its way
    return state.n;
}

// Whether this thread takes denormals for 0, in what it reads and what it calculates.
EXPORTED void gpt149_flush_denormals(int flush) {
#if defined(__x86_64__)
    constexpr unsigned both = 0x8040;
    __builtin_ia32_ldmxcsr(flush ? __builtin_ia32_stmxcsr() | both
                                 : __builtin_ia32_stmxcsr() & ~both);
#else
    uint64_t control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    control = flush ? control | 1 << 24 : control & ~(1ull << 24);
    asm volatile("msr fpcr, %0" : : "r"(control));
#endif
}

// run(args); rows: (capacity, 17), the address and rax rbx rcx rdx rsi rdi rbp rsp r8 .. r15.
// Returns how many rows were filled; with what was outside they are capacity, if the call went on.
// -1: this CPU cannot.
EXPORTED int64_t gpt149_step(const char *(*run)(const void *), const void *args, uint64_t begin,
                             uint64_t end, uint64_t *rows, int64_t capacity, int64_t *outside) {
#if defined(__x86_64__)
    state = {begin, end, rows, 0, capacity, 0, true};
    handle(SIGTRAP, stepped);
    raise(SIGTRAP); // its handler sets the flag
    run(args);
    state.stepping = false;
    raise(SIGTRAP);
    *outside = state.outside;
    return state.n;
#else
    (void)run, (void)args, (void)begin, (void)end, (void)rows, (void)capacity, (void)outside;
    return -1;
#endif
}
