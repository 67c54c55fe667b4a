// counters: what this thread's processor counts, where perf_event_open(2) lets us ask. Part of
// sampler's library; see there.
#include <cerrno>
#include <cstdint>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

constexpr int N_COUNTERS = 3;
constexpr uint64_t COUNTED[N_COUNTERS] = {PERF_COUNT_HW_INSTRUCTIONS, PERF_COUNT_HW_CPU_CYCLES,
                                          PERF_COUNT_HW_CACHE_MISSES};
int files[N_COUNTERS] = {-1, -1, -1};

} // namespace

// Instructions, cycles and cache misses of this thread in user mode, from now on. Returns 0, or the
// errno of what cannot be counted.
EXPORTED int gpt149_count_begin() {
    for (int i = 0; i < N_COUNTERS; i++) {
        perf_event_attr asked = {};
        asked.type = PERF_TYPE_HARDWARE;
        asked.size = sizeof asked;
        asked.config = COUNTED[i];
        asked.exclude_kernel = asked.exclude_hv = 1;
        files[i] = (int)syscall(SYS_perf_event_open, &asked, 0, -1, i ? files[0] : -1, 0);
        if (files[i] < 0) {
            const int why = errno;
            while (i-- > 0)
                close(files[i]);
            return why;
        }
    }
    return 0;
}

// What was counted since, (3).
EXPORTED void gpt149_count_end(uint64_t *counts) {
    for (int i = 0; i < N_COUNTERS; i++) {
        if (read(files[i], counts + i, sizeof *counts) != sizeof *counts) counts[i] = 0;
        close(files[i]);
    }
}
