// simd_plan.h: how a call of `simd` is cut into items of work, and where each keeps its numbers.
#pragma once

#include "gpt149.h"
#include "simd.h"

#include <algorithm>

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
    int batch, head, query, n_rows, begin, end;
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
    int share_keys; // of a split

    explicit Plan(const gpt149_args *args) : a(args) {
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
        const int keys = std::max((a->n_kv + wanted - 1) / wanted, SHARE);
        share_keys = (keys + CHUNK - 1) / CHUNK * CHUNK;
        splits = (a->n_kv + share_keys - 1) / share_keys;
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
        const int seen = heads == 1 ? gpt149_visible(a, row + it.n_rows - 1) : a->n_kv;
        it.begin = split * share_keys;
        it.end = std::max(it.begin, std::min(it.begin + share_keys, seen));
        return it;
    }

    // Multiplications of an item, about.
    int64_t cost(const Item &it) const {
        const int n = few ? it.n_rows : (it.n_rows + LANES - 1) / LANES * LANES;
        return (int64_t)n * (it.end - it.begin) * a->head_dim;
    }

    // Whether K and V come from memory, for few to use them. Half as large, they come fast enough
    // by themselves.
    bool distant() const {
        const int64_t floats = (int64_t)a->batch * a->n_kv_head * a->n_kv * a->head_dim;
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
        return splits > 1 ? share(it.row + r, it.begin / share_keys)
                          : gpt149_out(a, it.batch, head, query);
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

    // Workspace, in floats. A thread's own: Q, O and P of a tile, five numbers a row, and K and V
    // of a tile where they are widened. Then, if the keys are split, O, m and l of each row and
    // run.
    int padded() const { return (a->head_dim + LANES - 1) / LANES * LANES; }
    int64_t thread_floats() const {
        const int64_t keys = few ? CHUNK : bc, rows = few ? LANES : BR;
        const int64_t widened = a->kv_dtype == GPT149_BFLOAT16 ? 2 * keys * a->head_dim : 0;
        return (rows * (2 * padded() + keys + 5) + widened + 15) / 16 * 16;
    }
    float *share(int64_t row, int split) const {
        return (float *)a->workspace + a->n_threads * thread_floats() +
               (row * splits + split) * (a->head_dim + 2);
    }
    int64_t floats() const {
        const int64_t shares = splits > 1 ? (int64_t)units * rows * splits : 0;
        return a->n_threads * thread_floats() + shares * (a->head_dim + 2);
    }
};

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
