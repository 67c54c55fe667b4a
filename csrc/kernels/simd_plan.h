// simd_plan.h: how a call of `simd` is cut into items of work, and where each keeps its numbers;
// what prefill and decode share of the variants of attention.
#pragma once

#include "gpt149.h"
#include "simd.h"

#include <algorithm>
#include <cmath>

constexpr int VECTORS = 3, KEYS = REGISTERS == 32 ? 8 : 4;
constexpr int BR = VECTORS * LANES;     // queries a tile at most
constexpr int DEFAULT_BC = 128;         // keys a tile: P^T takes 24 KB of AVX-512
constexpr int FEW = 16;                 // rows that simd_decode.cpp takes, by LANES at most
constexpr int SHARE = 512, CHUNK = 256; // keys of a share at least; of it, at once
constexpr int MOST_SHARES = 64;         // of the keys of few rows
constexpr int ENOUGH = 8;               // tiles of a unit; with less, the keys are split
constexpr int64_t FAR = 64 << 10;       // floats of K: no L2 keeps it and V for the next token
constexpr float NEVER = -1e30f, LOG2E = 1.44269504f;

// A part of the work: rows of a unit that read the same keys, and which of the keys. head, query:
// where the first row is; see Plan::each_row.
struct Item {
    int batch, head, query, n_rows, split, begin, end;
    int64_t row; // counted over all units
};

// How the call is cut into items. How a unit is, neither batch nor heads decide: each sequence gets
// the same bits in any company, for the engine's threads share out heads. A unit is a batch's head,
// or, where queries are few, all heads that share a key head: its rows are the queries of the first
// head, then of the second, ...
struct Plan {
    const gpt149_args *a;
    int heads, rows, units; // heads and rows of a unit
    bool few;               // rows
    int br, bc, tiles, splits;
    int base, share_keys; // the first key that any query sees; keys of a split
    int d, d_v;           // length of rows of q and k; of v and out
    bool bent;            // scores are more than scale * q k
    bool ends;            // rows may see nothing, or there is more to their sums

    explicit Plan(const gpt149_args *args)
        : a(args), d(a->head_dim), d_v(gpt149_head_dim_v(a)),
          bent(a->softcap > 0 || a->alibi_slopes),
          ends(a->window || a->kv_begin || a->sinks || a->lse) {
        const int group = a->n_head / a->n_kv_head;
        heads = a->n_q <= FEW ? group : 1;
        rows = heads * a->n_q;
        units = a->batch * a->n_head / heads;
        br = a->br > 0 ? (std::min(a->br, BR) + LANES - 1) / LANES * LANES : BR;
        few = rows <= FEW;
        if (few) br = LANES;
        bc = std::min(a->bc > 0 ? a->bc : DEFAULT_BC, a->n_kv);
        bc = (bc + KEYS - 1) / KEYS * KEYS;
        tiles = (rows + br - 1) / br;
        const int wanted = few ? MOST_SHARES : (ENOUGH + tiles - 1) / tiles;
        base = a->window ? std::max(0, gpt149_visible(a, 0) - a->window) : 0;
        const int span = a->n_kv - base, keys = std::max((span + wanted - 1) / wanted, SHARE);
        share_keys = (keys + CHUNK - 1) / CHUNK * CHUNK;
        splits = (span + share_keys - 1) / share_keys;
    }

    int64_t n_items() const { return (int64_t)units * tiles * splits; }

    Item item(int64_t i) const {
        const int tile = i % tiles, split = i / tiles % splits, unit = i / tiles / splits;
        const int end =
            rows - (tiles - 1 - tile) * br; // the first tile, which sees least, is short
        const int row = std::max(0, end - br);
        return rows_of(unit, row, end - row, split);
    }
    // n rows of a unit from one on.
    Item rows_of(int unit, int row, int n, int split) const {
        const int units_each = a->n_head / heads; // of a batch
        Item it;
        it.batch = unit / units_each;
        it.head = unit % units_each * heads + row / a->n_q;
        it.query = row % a->n_q;
        it.n_rows = n;
        it.row = (int64_t)unit * rows + row;
        it.split = split;
        const int seen = heads == 1 ? gpt149_visible(a, row + it.n_rows - 1) : a->n_kv;
        const int first = ends ? gpt149_first(a, it.batch, heads == 1 ? row : 0) : 0;
        it.begin = base + split * share_keys;
        it.end = std::min(it.begin + share_keys, seen);
        it.begin = std::max(it.begin, first);
        it.end = std::max(it.begin, it.end);
        return it;
    }

    // Multiplications of an item, about.
    int64_t cost(const Item &it) const {
        const int n = few ? it.n_rows : (it.n_rows + LANES - 1) / LANES * LANES;
        return 1 + (int64_t)n * (it.end - it.begin) * d;
    }

    // Whether K and V come from memory, for few to use them. Half as large, they come fast enough
    // by themselves.
    bool distant() const {
        const int64_t floats = (int64_t)a->batch * a->n_kv_head * a->n_kv * d;
        return a->kv_dtype == GPT149_FLOAT32 && floats >= FAR && tiles <= 4;
    }

    // f(r, head, query) for the rows of an item.
    template <typename F> void each_row(const Item &it, F f) const {
        for (int r = 0, h = it.head, i = it.query; r < it.n_rows; r++) {
            f(r, h, i);
            if (++i == a->n_q) i = 0, h++;
        }
    }
    // How many keys, from the first, a query of the item sees; none behind the item's end.
    int visible(const Item &it, int query) const {
        return std::min(gpt149_visible(a, query), it.end);
    }
    // Where row r of an item goes: to the output, or to its share of it. Shares end in m and l.
    float *target(const Item &it, int r, int head, int query) const {
        return splits > 1 ? share(it.row + r, it.split) : gpt149_out(a, it.batch, head, query);
    }
    // Whether targets are floats, as shares always are; or bfloat16.
    bool wide() const { return splits > 1 || a->dtype == GPT149_FLOAT32; }
    // What the sum of a row, 2^m at a time, is to be multiplied by. Takes in the sink, and puts
    // lse.
    float finish(int batch, int head, int query, float m, float l) const {
        const float sink = gpt149_sink(a, head) * LOG2E, most = std::max(m, sink);
        // exp2 stays at 2^-125, and a sum with a stale maximum may be 2^16 times that.
        const float kept = l > 0 && m - most > -125 ? exp2(splat(m - most))[0] : 0;
        l *= kept;
        if (sink > NEVER) l += exp2(splat(sink - most))[0];
        if (a->lse) *gpt149_lse(a, batch, head, query) = most / LOG2E + std::log(l);
        return l > 0 ? kept / l : 0;
    }
    template <typename T> const T *k(const Item &it, int j) const {
        const int h = it.head / (a->n_head / a->n_kv_head);
        return (const T *)a->k + it.batch * a->k_stride[0] + h * a->k_stride[1] +
               j * a->k_stride[2];
    }
    template <typename T> const T *v(const Item &it, int j) const {
        const int h = it.head / (a->n_head / a->n_kv_head);
        return (const T *)a->v + it.batch * a->v_stride[0] + h * a->v_stride[1] +
               j * a->v_stride[2];
    }

    // Workspace, in floats. A thread's own: Q, O and P of a tile, eight numbers a row, and K and V
    // of a tile where they are widened. Then, if the keys are split, O, m and l of each row and
    // run.
    int padded() const { return (d + LANES - 1) / LANES * LANES; }
    int padded_v() const { return (d_v + LANES - 1) / LANES * LANES; }
    int64_t thread_floats() const {
        const int64_t keys = few ? CHUNK : bc, rows = few ? LANES : BR;
        const int64_t widened = a->kv_dtype == GPT149_BFLOAT16 ? keys * (d + d_v) : 0;
        return (rows * (padded() + padded_v() + keys + 8) + widened + 15) / 16 * 16;
    }
    float *share(int64_t row, int split) const {
        return (float *)a->workspace + a->n_threads * thread_floats() +
               (row * splits + split) * (d_v + 2);
    }
    int64_t floats() const {
        const int64_t shares = splits > 1 ? (int64_t)units * rows * splits : 0;
        return a->n_threads * thread_floats() + shares * (d_v + 2);
    }
};

// What scores become: softcap, slopes and what hides keys, for lanes of rows and keys.
struct Bend {
    float scale;   // of Q, in units of log2(e) so that 2^x serves for e^x; of softcap with one
    float softcap; // in these units, or 0
    bool sloped;

    explicit Bend(const gpt149_args *a)
        : scale(a->scale * LOG2E), softcap(0), sloped(a->alibi_slopes) {
        if (a->softcap > 0) scale = a->scale / a->softcap, softcap = a->softcap * LOG2E;
    }
    // NEVER where the key is before first or not visible; slope: in units of log2(e).
    Vector operator()(Vector s, Ints key, Ints first, Ints visible, Ints position,
                      Vector slope) const {
        if (softcap > 0) s = softcap * tanh(s);
        if (sloped) s += slope * __builtin_convertvector(key - position, Vector);
        return ((key >= first) & (key < visible)) ? s : splat(NEVER);
    }
};

// n <= LANES elements of a target, from x on.
static inline void put(bool floats, float *target, int x, int n, Vector y) {
    if (floats)
        n == LANES ? store(target + x, y) : store_some(target + x, y, n);
    else
        for (int i = 0; i < n; i++)
            ((bfloat16 *)target)[x + i] = to_bfloat16(y[i]);
}

// n rows of head_dim d as floats, d apart, in `to`, which is returned.
static inline const float *widen(const bfloat16 *rows, int64_t stride, int n, int d, float *to) {
    for (int j = 0; j < n; j++)
        for (int x = 0; x < d; x++)
            to[j * d + x] = to_float(rows[j * stride + x]);
    return to;
}

// The attention of an item, into its target. scratch: thread_floats().
void simd_prefill(const Plan &plan, const Item &it, float *scratch);
void simd_decode(const Plan &plan, const Item &it, float *scratch);
