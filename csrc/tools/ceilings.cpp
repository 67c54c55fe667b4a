// ceilings: what this machine can do at most, measured. Not a kernel: `gpt149 bench` divides by it.
//
// gpt149_fma_peak: float32 multiplications and additions a second, from chains of fused
// multiply-adds in registers, as many as hide the latency. gpt149_read_bandwidth: bytes a second of
// threads that each sum up their own share of memory, from several distant places at once.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <omp.h>

#if defined(__AVX512F__)
constexpr int BYTES = 64, CHAINS = 24; // of 32 registers
#elif defined(__AVX__)
constexpr int BYTES = 32, CHAINS = 12; // of 16 registers; latency 4 or 5 times 2 units
#else
constexpr int BYTES = 16, CHAINS = 12;
#endif
constexpr int LANES = BYTES / sizeof(float);
typedef float Vector __attribute__((vector_size(BYTES)));

static double now() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// Operations a second of n_threads, over about `seconds`.
extern "C" __attribute__((visibility("default"))) double gpt149_fma_peak(int n_threads,
                                                                         double seconds) {
    constexpr int INNER = 10000;
    double operations = 0, slowest = 0;
#pragma omp parallel num_threads(n_threads) reduction(+ : operations) reduction(max : slowest)
    {
        Vector x = Vector{} + 0.999f, y = Vector{} + 0.001f, sum[CHAINS];
        for (Vector &s : sum)
            s = y;
#pragma omp barrier
        const double start = now();
        while (now() - start < seconds) {
            for (int i = 0; i < INNER; i++) {
#pragma GCC unroll 24
                for (int c = 0; c < CHAINS; c++)
                    sum[c] = sum[c] * x + y;
                asm volatile("" : "+x"(x)); // x may have changed: nothing is computed ahead
            }
            operations += 2.0 * LANES * CHAINS * INNER;
        }
        slowest = now() - start;
        for (Vector &s : sum)
            asm volatile("" : : "x"(s));
    }
    return operations / slowest;
}

// Bytes a second that n_threads read from n floats, over about `seconds`.
extern "C" __attribute__((visibility("default"))) double
gpt149_read_bandwidth(const float *memory, int64_t n, int n_threads, double seconds) {
    constexpr int STREAMS = 4, UNROLL = 4;
    double bytes = 0, slowest = 0;
#pragma omp parallel num_threads(n_threads) reduction(+ : bytes) reduction(max : slowest)
    {
        // A thread's share in STREAMS equal runs, read side by side.
        const int64_t run = n / n_threads / STREAMS / (LANES * UNROLL) * (LANES * UNROLL);
        const float *first = memory + omp_get_thread_num() * STREAMS * run;
        Vector sum[STREAMS * UNROLL] = {};
#pragma omp barrier
        const double start = now();
        do {
            for (int64_t i = 0; i < run; i += LANES * UNROLL) {
#pragma GCC unroll 16
                for (int k = 0; k < STREAMS * UNROLL; k++) {
                    const float *at = first + k / UNROLL * run + i + k % UNROLL * LANES;
                    Vector x;
                    std::memcpy(&x, at, sizeof x);
                    sum[k] += x;
                    if (k % UNROLL == 0) __builtin_prefetch(at + 256);
                }
            }
            bytes += STREAMS * run * sizeof(float);
        } while (now() - start < seconds);
        slowest = now() - start;
        for (Vector &s : sum)
            asm volatile("" : : "x"(s));
    }
    return bytes / slowest;
}
