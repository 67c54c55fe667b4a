// image.h: packed weights as a file: the chunks of their pool, one behind the other.
#pragma once

#include "engine/memory.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <sys/uio.h>

static inline int64_t image_bytes(const Pool &pool) {
    int64_t bytes = 0;
    for (const Pool::Chunk &chunk : pool.chunks())
        bytes += chunk.used;
    return bytes;
}

// In as few calls as there can be: of a long write a file system makes huge pages, where it has
// such. False, with errno, where it cannot be written.
static inline bool write_image(const Pool &pool, int file) {
    std::vector<iovec> left;
    for (const Pool::Chunk &chunk : pool.chunks())
        left.push_back({chunk.region.data(), (size_t)chunk.used});
    for (size_t i = 0; i < left.size();) {
        const ssize_t written = writev(file, &left[i], std::min<size_t>(left.size() - i, IOV_MAX));
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        size_t n = written;
        for (; i < left.size() && n >= left[i].iov_len; i++)
            n -= left[i].iov_len;
        if (n) left[i].iov_base = (char *)left[i].iov_base + n, left[i].iov_len -= n;
    }
    return true;
}

static inline uint64_t mixed(uint64_t sum, uint64_t next) {
    sum = (sum ^ next) * 0x9E3779B97F4A7C15;
    return sum ^ sum >> 29;
}

// Two sums for each of eight words in turn, the second weighed by place, after Fletcher (1982).
// bytes: a multiple of Pool::LINE.
static inline uint64_t checksum_of(const uint8_t *from, int64_t bytes) {
    typedef uint64_t Words __attribute__((vector_size(Pool::LINE)));
    Words first = {}, second = {};
    for (int64_t i = 0; i < bytes; i += sizeof(Words)) {
        Words words;
        std::memcpy(&words, from + i, sizeof words);
        first += words, second += first;
    }
    uint64_t sum = bytes;
    for (int i = 0; i < 8; i++)
        sum = mixed(mixed(sum, first[i]), second[i]);
    return sum;
}

// Of a file's region. Its pages do not stay resident: of a head most are never needed.
static inline uint64_t checksum_of(const Region &file, int n_threads) {
    std::vector<uint64_t> sums((file.bytes() + HUGE_PAGE - 1) / HUGE_PAGE);
#pragma omp parallel for num_threads(n_threads) schedule(dynamic)
    for (size_t i = 0; i < sums.size(); i++) {
        uint8_t *const block = file.data() + i * HUGE_PAGE;
        const int64_t bytes = std::min<int64_t>(HUGE_PAGE, file.bytes() - i * HUGE_PAGE);
        sums[i] = checksum_of(block, bytes);
        madvise(block, bytes, MADV_DONTNEED);
    }
    uint64_t sum = file.bytes();
    for (const uint64_t of_block : sums)
        sum = mixed(sum, of_block);
    return sum;
}
