// memory.h: where the engine keeps its numbers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sys/mman.h>
#include <utility>
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

constexpr int64_t HUGE_PAGE = 2 << 20; // bytes

// Pages of memory or of a file, in huge pages where the system has them: else the CPU looks up a
// page, and starts to prefetch anew, every 4 KB.
class Region {
  public:
    Region() = default;

    // Zeros, or the start of the file, read-only; data() is NULL where there is no memory.
    explicit Region(int64_t bytes, int file = -1) : reserved_(bytes + HUGE_PAGE) {
        void *at = mmap(nullptr, reserved_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) return;
        start_ = (uint8_t *)at;
        at = start_ + (HUGE_PAGE - (intptr_t)start_ % HUGE_PAGE); // only there pages can be huge
        at = file < 0 ? mmap(at, bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
                      : mmap(at, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
        if (at == MAP_FAILED) return;
        data_ = (uint8_t *)at, bytes_ = bytes;
#if defined(MADV_HUGEPAGE)
        madvise(data_, bytes, MADV_HUGEPAGE);
#endif
    }
    Region(Region &&other) { *this = std::move(other); }
    Region &operator=(Region &&other) {
        std::swap(start_, other.start_), std::swap(reserved_, other.reserved_);
        std::swap(data_, other.data_), std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Region() {
        if (start_) munmap(start_, reserved_);
    }

    uint8_t *data() const { return data_; }
    int64_t bytes() const { return bytes_; }
    void make_read_only() const { mprotect(data_, bytes_, PROT_READ); }

  private:
    uint8_t *start_ = nullptr, *data_ = nullptr;
    int64_t reserved_ = 0, bytes_ = 0; // behind start_, behind data_
};

// Memory for weights, handed out piece by piece, which lives as long as the pool.
//
// A filled pool holds what another one held: the pieces that are taken in the same order have their
// contents already.
class Pool {
  public:
    static constexpr int64_t LINE = 64; // bytes of which pieces have a whole number

    struct Chunk {
        Region region;
        int64_t used = 0; // bytes
    };

    // n elements on cache lines; NULL where there is no memory.
    template <typename T> T *take(int64_t n) {
        const int64_t bytes = (n * sizeof(T) + LINE - 1) / LINE * LINE;
        if (bytes > left() && !grow(bytes)) return nullptr;
        Chunk &chunk = chunks_.back();
        T *piece = (T *)(chunk.region.data() + chunk.used);
        chunk.used += bytes;
        return piece;
    }

    // Start with the chunks of another pool, one behind the other.
    void fill(Region &&image) {
        chunks_.clear();
        chunks_.push_back({std::move(image)});
        filled_ = true;
    }

    bool filled() const { return filled_; }
    const std::vector<Chunk> &chunks() const { return chunks_; }

    // Nobody writes into it any more, not even a kernel that writes past its memory.
    void seal() const {
        for (const Chunk &chunk : chunks_)
            chunk.region.make_read_only();
    }

  private:
    static constexpr int64_t CHUNK = 32 << 20; // bytes; pages that are not used cost none

    int64_t left() const {
        return chunks_.empty() ? 0 : chunks_.back().region.bytes() - chunks_.back().used;
    }

    bool grow(int64_t n) {
        if (filled_) return false;
        Region region((std::max(n, CHUNK) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
        if (!region.data()) return false;
        chunks_.push_back({std::move(region)});
        return true;
    }

    std::vector<Chunk> chunks_;
    bool filled_ = false;
};
