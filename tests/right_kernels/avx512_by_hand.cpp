// cause: none
// Products in vectors of sixteen floats; a mask covers the end of a row.
#include "../kernel_parts/rows.h"

#if defined(__AVX512F__)
#include <immintrin.h>

struct Right : Rows {
    __mmask16 left(int x) { // which of 16 dims from x on exist
        return a->head_dim - x >= 16 ? 0xFFFF : (1u << (a->head_dim - x)) - 1;
    }
    float score(int j) override {
        const float *query = q(), *key = k(j);
        __m512 sums = _mm512_setzero_ps();
        for (int x = 0; x < a->head_dim; x += 16) {
            const __m512 qx = _mm512_maskz_loadu_ps(left(x), query + x);
            sums = _mm512_fmadd_ps(qx, _mm512_maskz_loadu_ps(left(x), key + x), sums);
        }
        return a->scale * _mm512_reduce_add_ps(sums);
    }
    void add_values(int j0, int n) override {
        float *o = out();
        for (int x = 0; x < a->head_dim; x += 16) {
            __m512 sums = _mm512_setzero_ps();
            for (int j = 0; j < n; j++) {
                const __m512 value = _mm512_maskz_loadu_ps(left(x), v(j0 + j) + x);
                sums = _mm512_fmadd_ps(_mm512_set1_ps(scores()[j]), value, sums);
            }
            _mm512_mask_storeu_ps(o + x, left(x), sums);
        }
    }
};
#else
using Right = Rows;
#endif

GPT149_KERNEL({"avx512_by_hand", "a row of scores; sixteen floats at a time", "n_kv", one_row,
               run<Right>})
