// softmax(Q K^T / sqrt(d)) V for every batch and head, as one plain function.
#include <math.h>
#include <stdlib.h>

void attention(const float *q, const float *k, const float *v, float *out, int B, int H, int N,
               int d) {
#pragma omp parallel for
    for (int bh = 0; bh < B * H; bh++) {
        const long at = (long)bh * N * d;
        float *scores = malloc(N * sizeof *scores);
        for (int i = 0; i < N; i++) {
            float m = -INFINITY, l = 0;
            for (int j = 0; j < N; j++) {
                float dot = 0;
                for (int x = 0; x < d; x++)
                    dot += q[at + i * d + x] * k[at + j * d + x];
                scores[j] = dot / sqrtf(d);
                m = fmaxf(m, scores[j]);
            }
            for (int x = 0; x < d; x++)
                out[at + i * d + x] = 0;
            for (int j = 0; j < N; j++) {
                const float p = expf(scores[j] - m);
                l += p;
                for (int x = 0; x < d; x++)
                    out[at + i * d + x] += p * v[at + j * d + x];
            }
            for (int x = 0; x < d; x++)
                out[at + i * d + x] /= l;
        }
        free(scores);
    }
}
