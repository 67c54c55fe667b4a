// sampler: where a call of a kernel spends its time, and what it executes. Not a kernel: `gpt149
// profile` loads it before all else (LD_PRELOAD), so that it hears of threads that begin. Needs no
// privileges: signals come to the process's own threads.
//
// gpt149_sample_begin/end: a timer interrupts each thread; kept is where it was, and, if that is
// outside of the kernel, the place in the kernel that it was called from. gpt149_step: one call,
// an instruction at a time (x86-64 alone can do that). Both keep the registers.
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
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
constexpr int MOST_THREADS = 256;
constexpr long TRAP_FLAG = 0x100;

// thread: 0 for the one that calls, else its place in `threads`, from 1 on. registers: rax rbx rcx
// rdx rsi rdi rbp rsp r8 .. r15 (x86-64), else 0.
struct Row {
    uint64_t pc, site, thread, registers[N_REGISTERS];
};

struct {
    uint64_t begin, end; // of the kernel's code
    Row *rows;
    int64_t n, capacity; // n may grow beyond it
    int64_t outside;     // steps that were, which are not kept
    int64_t every;       // nanoseconds between samples; 0: there are none
    bool stepping;
} state;

// The threads that began while we listened; pid 0: free.
struct Thread {
    pid_t pid;
    timer_t timer;
    bool timed;
} threads[MOST_THREADS];
Thread caller;                        // of gpt149_sample_begin
int64_t ended[MOST_THREADS];          // nanoseconds of CPU time of threads that are no more
int64_t n_ended, n_alive, most_alive; // most at once, of those that began
pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER;

// Of handlers: memory that the first access of a thread would allocate is none for them.
#define OWN __attribute__((tls_model("initial-exec"))) thread_local
OWN const uint64_t *stack_begin, *stack_end;
OWN int64_t worked; // nanoseconds of this thread's CPU time at its last sample
OWN bool paused;    // no steps now
OWN uint64_t place; // in `threads`, from 1 on

// Threads that are in a handler, where one may be kept from its processor while others go on.
int64_t n_handling;
struct Handling {
    Handling() { __atomic_fetch_add(&n_handling, 1, __ATOMIC_SEQ_CST); }
    ~Handling() { __atomic_fetch_sub(&n_handling, 1, __ATOMIC_SEQ_CST); }
};

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
    if (top < stack_begin) return 0; // a stack that the kernel has made
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

void keep(const ucontext_t *at, uint64_t pc, uint64_t site) {
    const int64_t n = __atomic_fetch_add(&state.n, 1, __ATOMIC_RELAXED);
    if (n >= __atomic_load_n(&state.capacity, __ATOMIC_SEQ_CST)) return;
    Row &row = state.rows[n];
    row = {pc, site, place, {}};
#if defined(__x86_64__)
    constexpr int order[N_REGISTERS] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI,
                                        REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                        REG_R12, REG_R13, REG_R14, REG_R15};
    for (int i = 0; i < N_REGISTERS; i++)
        row.registers[i] = at->uc_mcontext.gregs[order[i]];
#endif
}

int64_t cpu_time() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

// A thread that slept since its last sample says nothing.
void sampled(int, siginfo_t *, void *context) {
    const Handling handling;
    const auto *at = (const ucontext_t *)context;
    const int64_t now = cpu_time(), slept = state.every - (now - worked);
    worked = now;
    if (state.n >= state.capacity || 4 * slept > 3 * state.every) return;
    const uint64_t pc = counter(at);
    keep(at, pc, inside(pc) ? 0 : called_from(at));
}

#if defined(__x86_64__)
void stepped(int, siginfo_t *, void *context) {
    const Handling handling;
    auto *at = (ucontext_t *)context;
    auto &flags = at->uc_mcontext.gregs[REG_EFL];
    const uint64_t pc = counter(at);
    const bool more = state.stepping && !paused && state.n + state.outside < state.capacity;
    flags = more ? flags | TRAP_FLAG : flags & ~TRAP_FLAG;
    if (!more) return;
    if (inside(pc))
        keep(at, pc, 0);
    else
        __atomic_fetch_add(&state.outside, 1, __ATOMIC_RELAXED);
}
#endif

// How many rows were filled. None is from here on, and the caller may give them back.
int64_t end_rows() {
    const int64_t capacity = __atomic_exchange_n(&state.capacity, 0, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&n_handling, __ATOMIC_SEQ_CST))
        sched_yield();
    return std::min(state.n, capacity);
}

void handle(int number, void (*by)(int, siginfo_t *, void *)) {
    struct sigaction action = {};
    action.sa_sigaction = by;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(number, &action, nullptr);
}

void know_stack() {
    pthread_attr_t attributes;
    void *stack = nullptr;
    size_t n_bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &stack, &n_bytes);
        pthread_attr_destroy(&attributes);
    }
    stack_begin = (const uint64_t *)stack;
    stack_end = (const uint64_t *)((char *)stack + n_bytes);
}

void set_timer(Thread &thread) {
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGPROF;
    event.sigev_notify_thread_id = thread.pid;
    if (timer_create(CLOCK_MONOTONIC, &event, &thread.timer)) return;
    const itimerspec every = {{0, state.every}, {0, state.every}};
    thread.timed = timer_settime(thread.timer, 0, &every, nullptr) == 0;
}

void end_timer(Thread &thread) {
    if (thread.timed) timer_delete(thread.timer);
    thread.timed = false;
}

// A system call with signals blocked, as those that begin a thread, must not be stepped into.
void pause_steps(bool pause) {
    if (!state.stepping) return;
    paused = pause;
    raise(SIGTRAP);
}

// A thread's place in the list, for as long as it lives; pthread_exit unwinds it, too.
struct Entered {
    Thread *thread = nullptr;
    Entered() {
        know_stack();
        pthread_mutex_lock(&threads_lock);
        thread = std::find_if(threads, threads + MOST_THREADS - 1,
                              [](const Thread &other) { return !other.pid; });
        *thread = {(pid_t)syscall(SYS_gettid), {}, false};
        place = 1 + (thread - threads);
        most_alive = std::max(most_alive, ++n_alive);
        if (state.every) set_timer(*thread);
        pthread_mutex_unlock(&threads_lock);
        pause_steps(false);
    }
    ~Entered() {
        pause_steps(true);
        pthread_mutex_lock(&threads_lock);
        end_timer(*thread);
        thread->pid = 0;
        n_alive--;
        if (n_ended++ < MOST_THREADS) ended[n_ended - 1] = cpu_time();
        pthread_mutex_unlock(&threads_lock);
    }
};

struct Start {
    void *(*run)(void *);
    void *argument;
};

void *watched(void *given) {
    const Start start = *(Start *)given;
    delete (Start *)given;
    Entered entered;
    return start.run(start.argument);
}

// Each thread that we know of takes notice of what is wanted of it now.
void tell_threads() {
    pthread_mutex_lock(&threads_lock);
    for (Thread &thread : threads)
        if (thread.pid) syscall(SYS_tgkill, getpid(), thread.pid, SIGTRAP);
    pthread_mutex_unlock(&threads_lock);
}

} // namespace

EXPORTED int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                            void *(*run)(void *), void *argument) noexcept {
    using Create = int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    static const Create create = (Create)dlsym(RTLD_NEXT, "pthread_create");
    pause_steps(true);
    auto *start = new Start{run, argument};
    const int failed = create(thread, attributes, watched, start);
    if (failed) delete start;
    pause_steps(false);
    return failed;
}

// The threads that ended since this was asked last. Returns how many are in `into`, nanoseconds of
// CPU time each. all: how many ended; at_once: the most of them that were there at the same time.
EXPORTED int64_t gpt149_ended(const int64_t **into, int64_t *all, int64_t *at_once) {
    pthread_mutex_lock(&threads_lock);
    *into = ended, *all = n_ended, *at_once = most_alive - n_alive;
    const int64_t n = std::min<int64_t>(n_ended, MOST_THREADS);
    n_ended = 0, most_alive = n_alive;
    pthread_mutex_unlock(&threads_lock);
    return n;
}

// Returns 0, or -1 where there is no such timer.
EXPORTED int gpt149_sample_begin(uint64_t begin, uint64_t end, void *rows, int64_t capacity,
                                 int64_t nanoseconds) {
    state = {begin, end, (Row *)rows, 0, capacity, 0, nanoseconds, false};
    know_stack();
    handle(SIGPROF, sampled);
    pthread_mutex_lock(&threads_lock);
    caller = {(pid_t)syscall(SYS_gettid), {}, false};
    set_timer(caller);
    for (Thread &thread : threads)
        if (thread.pid) set_timer(thread);
    pthread_mutex_unlock(&threads_lock);
    return caller.timed ? 0 : -1;
}

// How many rows were filled.
EXPORTED int64_t gpt149_sample_end() {
    pthread_mutex_lock(&threads_lock);
    state.every = 0;
    end_timer(caller);
    for (Thread &thread : threads)
        end_timer(thread);
    pthread_mutex_unlock(&threads_lock);
    return end_rows();
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

// run(args). Returns how many rows were filled; with what was outside they are capacity, if the
// call went on. -1: this CPU cannot.
EXPORTED int64_t gpt149_step(const char *(*run)(const void *), const void *args, uint64_t begin,
                             uint64_t end, void *rows, int64_t capacity, int64_t *outside) {
#if defined(__x86_64__)
    state = {begin, end, (Row *)rows, 0, capacity, 0, 0, true};
    handle(SIGTRAP, stepped);
    tell_threads();
    raise(SIGTRAP); // its handler sets the flag
    run(args);
    state.stepping = false;
    raise(SIGTRAP);
    tell_threads();
    *outside = state.outside;
    return end_rows();
#else
    (void)run, (void)args, (void)begin, (void)end, (void)rows, (void)capacity, (void)outside;
    return -1;
#endif
}
