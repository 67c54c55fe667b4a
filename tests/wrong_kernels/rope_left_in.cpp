// cause: rope
// says: rotat|RoPE
// Rotary positions are left in: dims x and x + head_dim / 2 are rotated by the distance of query
// and key. Right for a key at the query's own position, and for an odd head_dim's last dim.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        const int half = a->head_dim / 2, distance = i + a->n_kv - a->n_q - j;
        const float *query = q(), *key = k(j);
        float s = a->head_dim % 2 ? query[2 * half] * key[2 * half] : 0;
        for (int x = 0; x < half; x++) {
            const float angle = distance * std::pow(10000.0f, -(float)x / half); // wrong: 0
            const float c = std::cos(angle), n = std::sin(angle);
            s += query[x] * (c * key[x] + n * key[x + half]);
            s += query[x + half] * (c * key[x + half] - n * key[x]);
        }
        return a->scale * s;
    }
};

GPT149_KERNEL({"rope_left_in", "a row of scores; rotated by distance", "n_kv", one_row, run<Wrong>})
