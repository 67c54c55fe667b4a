// attention.h: the KV cache of all sequences, and the calls of the kernel.
//
// Sequences have lengths of their own, and nothing is padded: the kernel is called for one at a
// time, or for several at once that are alike and neighbours in the cache.
#pragma once

#include "engine/binding.h"
#include "engine/weights.h"
#include "gpt149.h"

#include <atomic>
#include <vector>

class Attention {
  public:
    std::atomic<const char *> declined{nullptr}; // why a call came to nothing
    double seconds = 0;

    explicit Attention(const Config &config)
        : c(config), d(c.n_embd / c.n_head), size(c.kv_dtype == BFLOAT16 ? 2 : 4),
          workspaces(c.n_threads), workspace_sizes(c.n_threads) {}

    // Keys and values, each (n_layer, slots, n_head, n_ctx, head_dim); the memory stays the
    // caller's.
    void cache(void *k, void *v, int slots) {
        k_cache = (uint8_t *)k, v_cache = (uint8_t *)v, n_slots = slots;
    }

    // One thread's heads, or sequences where these share out more evenly: their new keys and values
    // into the cache, then the kernel. qkv: (rows, 3, n_head, head_dim). y: (rows, n_embd), or,
    // with last_only, of each run's last row alone.
    void attend(const gpt149_kernel &kernel, const std::vector<Run> &runs, int layer, float scale,
                const float *qkv, float *y, bool last_only, int thread, int n_threads) {
        const bool by_heads = heads_share_out_better(runs, n_threads);
        const int n_runs = runs.size();
        const Share heads = by_heads ? Share(c.n_head, thread, n_threads) : Share(c.n_head, 0, 1);
        const Share mine = by_heads ? Share(n_runs, 0, 1) : Share(n_runs, thread, n_threads);
        if (heads.first == heads.last) return;
        for (int s = mine.first; s < mine.last; s++)
            keep(runs[s], layer, heads, qkv);
        for (int s = mine.first, end; s < mine.last; s = end) {
            for (end = s + 1; end < mine.last && alike(runs[s], runs[end], end - s); end++) {
            }
            const int n_q = last_only ? 1 : runs[s].n;
            const int64_t y_row = last_only ? s : runs[s].row;
            call(kernel, runs[s], end - s, n_q, layer, scale, heads, qkv, y + y_row * c.n_embd,
                 thread);
        }
    }

  private:
    const Config c;
    const int d, size; // head_dim, bytes of a value in the cache
    uint8_t *k_cache = nullptr, *v_cache = nullptr;
    int n_slots = 1;
    std::vector<Memory<uint8_t>> workspaces; // a thread's, for the kernel
    std::vector<int64_t> workspace_sizes;

    int64_t per_head() const { return (int64_t)c.n_ctx * d; }
    int64_t per_slot() const { return c.n_head * per_head(); }
    int64_t at(int layer, int slot, int head) const {
        return ((int64_t)layer * n_slots + slot) * per_slot() + head * per_head();
    }

    bool heads_share_out_better(const std::vector<Run> &runs, int n_threads) const {
        int64_t all = 0, most = 0; // scores of a head, of all sequences and of a thread's
        for (int t = 0; t < n_threads; t++) {
            const Share share(runs.size(), t, n_threads);
            int64_t scores = 0;
            for (int s = share.first; s < share.last; s++)
                scores += (int64_t)runs[s].n * (runs[s].start + runs[s].n);
            all += scores, most = std::max(most, scores);
        }
        return (c.n_head + n_threads - 1) / n_threads * all <= c.n_head * most;
    }

    static bool alike(const Run &a, const Run &b, int distance) {
        return a.start == b.start && a.n == b.n && b.slot == a.slot + distance;
    }

    void keep(const Run &run, int layer, Share heads, const float *qkv) const {
        for (int i = 0; i < run.n; i++)
            for (int h = heads.first; h < heads.last; h++) {
                const float *k = qkv + (int64_t)(run.row + i) * 3 * c.n_embd + c.n_embd + h * d;
                const int64_t to = at(layer, run.slot, h) + (int64_t)(run.start + i) * d;
                store(k, k_cache + to * size);
                store(k + c.n_embd, v_cache + to * size);
            }
    }

    void store(const float *row, uint8_t *to) const {
        if (c.kv_dtype == BFLOAT16)
            for (int i = 0; i < d; i++)
                ((bfloat16 *)to)[i] = to_bfloat16(row[i]);
        else
            std::memcpy(to, row, d * sizeof(float));
    }

    // For the last n_q tokens of `batch` sequences that are alike, from one on.
    void call(const gpt149_kernel &kernel, const Run &run, int batch, int n_q, int layer,
              float scale, Share heads, const float *qkv, float *y, int thread) {
        const int width = c.n_embd;
        gpt149_args a = {};
        a.abi_version = GPT149_ABI_VERSION, a.struct_size = sizeof a;
        a.dtype = GPT149_FLOAT32, a.kv_dtype = c.kv_dtype;
        a.causal = 1, a.n_threads = 1, a.br = c.br, a.bc = c.bc;
        a.batch = batch, a.n_head = a.n_kv_head = heads.last - heads.first;
        a.head_dim = d, a.n_q = n_q, a.n_kv = run.start + run.n, a.scale = scale;
        const int64_t q_stride[] = {(int64_t)run.n * 3 * width, d, 3 * width};
        const int64_t kv_stride[] = {per_slot(), per_head(), d};
        const int64_t out_stride[] = {(int64_t)n_q * width, d, width};
        std::copy_n(q_stride, 3, a.q_stride);
        std::copy_n(kv_stride, 3, a.k_stride);
        std::copy_n(kv_stride, 3, a.v_stride);
        std::copy_n(out_stride, 3, a.out_stride);

        const int64_t needed = kernel.workspace_bytes(&a);
        if (needed < 0) {
            declined = "its workspace_bytes is negative";
            return;
        }
        if (needed > workspace_sizes[thread]) {
            workspaces[thread] = allocate<uint8_t>(needed);
            workspace_sizes[thread] = workspaces[thread] ? needed : 0;
        }
        if (needed > workspace_sizes[thread]) {
            declined = "there is no memory for its workspace";
            return;
        }
        const int64_t first = at(layer, run.slot, heads.first) * size;
        a.q = qkv + (int64_t)(run.row + run.n - n_q) * 3 * width + heads.first * d;
        a.k = k_cache + first, a.v = v_cache + first;
        a.out = y + heads.first * d;
        a.workspace = workspaces[thread].get();
        if (const char *why = kernel.run(&a)) declined = why;
    }
};
