// cause: none
// Products in vectors of eight floats, and what is left over one by one.
#include "../kernel_parts/rows.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

struct Right : Rows {
    float score(int j) override {
        const float *query = q(), *key = k(j);
        __m256 sums = _mm256_setzero_ps();
        int x = 0;
        for (; x + 8 <= a->head_dim; x += 8)
            sums = _mm256_fmadd_ps(_mm256_loadu_ps(query + x), _mm256_loadu_ps(key + x), sums);
        float lanes[8];
        _mm256_storeu_ps(lanes, sums);
        const float whole = sum(8, [&](int n) { return lanes[n]; });
        return a->scale * (whole + dot(query + x, key + x, a->head_dim - x));
    }
    void add_values(int j0, int n) override {
        float *o = out();
        for (int j = 0; j < n; j++) {
            const float p = scores()[j], *value = v(j0 + j);
            const __m256 all = _mm256_set1_ps(p);
            int x = 0;
            for (; x + 8 <= a->head_dim; x += 8) {
                const __m256 so_far = _mm256_loadu_ps(o + x);
                _mm256_storeu_ps(o + x, _mm256_fmadd_ps(all, _mm256_loadu_ps(value + x), so_far));
            }
            for (; x < a->head_dim; x++)
                o[x] += p * value[x];
        }
    }
};
#else
using Right = Rows;
#endif

GPT149_KERNEL({"avx2_by_hand", "a row of scores; eight floats at a time", "n_kv", one_row,
               run<Right>})
