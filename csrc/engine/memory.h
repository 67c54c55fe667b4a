// memory.h: where the engine keeps its numbers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sys/mman.h>
#include <vector>

struct Free {
    void operator()(void *memory) const { std::free(memory); }
};
template <typename T> using Memory = std::unique_ptr<T[], Free>;

// Zeros on cache lines; empty where there is no memory.
template <typename T> static Memory<T> allocate(int64_t n) {
    Memory<T> memory((T *)std::aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64 + 64));
    if (memory) std::memset(memory.get(), 0, n * sizeof(T));
    return memory;
}

// Memory for weights, handed out piece by piece, which lives as long as the pool. In huge pages
// where the system has them: else the CPU looks up a page, and starts to prefetch anew, every 4 KB.
class Pool {
  public:
    // n bytes on cache lines, uninitialised; NULL where there is no memory.
    uint8_t *take(int64_t n) {
        n = (n + 63) / 64 * 64;
        if (n > left_ && !grow(n)) return nullptr;
        uint8_t *piece = at_;
        at_ += n, left_ -= n;
        return piece;
    }

  private:
    static constexpr int64_t HUGE_PAGE = 2 << 20, CHUNK = 32 << 20; // bytes; unused ones cost none

    bool grow(int64_t n) {
        const int64_t size = (std::max(n, CHUNK) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        at_ = (uint8_t *)std::aligned_alloc(HUGE_PAGE, size), left_ = at_ ? size : 0;
        if (!at_) return false;
        chunks_.emplace_back(at_);
#if defined(MADV_HUGEPAGE)
        madvise(at_, size, MADV_HUGEPAGE);
#endif
        return true;
    }

    std::vector<Memory<uint8_t>> chunks_;
    uint8_t *at_ = nullptr;
    int64_t left_ = 0;
};
