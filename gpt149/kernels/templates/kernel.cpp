// NAME: attention, one query at a time. Right and slow: a start for something faster.
//
//   out = softmax(scale * Q K^T + mask) V, for every batch b and head h
//
// gpt149.h says what a kernel may rely on. In short:
// - q and out are (batch, n_head, n_q, head_dim), k and v (batch, n_kv_head, n_kv, head_dim).
//   Rows are head_dim contiguous floats; nothing else is: reach them by gpt149_q(a, b, h, i) and
//   the like, or by the strides.
// - Query i sees the keys 0 .. gpt149_visible(a, i) - 1. n_q = n_kv is a prefill, n_q = 1 a decode
//   step.
// - out and workspace hold garbage at first. Write every element of out, nothing else.
// - run() may be called from several threads at once: no static or global buffers.
//
//   gpt149 check FILE --watch          right or wrong, and why, at every save
//   gpt149 generate "ROMEO:" -a FILE   text through this kernel, and its speed
#include "gpt149.h"

#include <cmath>

// Bytes of scratch memory that run() finds in a->workspace: here one row of scores.
static int64_t workspace_bytes(const gpt149_args *a) {
    return a->n_kv * sizeof(float);
}

static void attend(const gpt149_args *a, int b, int h, int i, float *s) {
    const float *q = gpt149_q(a, b, h, i);
    const int n = gpt149_visible(a, i);

    // s = scale * q K^T, and its maximum m.
    float m = -INFINITY;
    for (int j = 0; j < n; j++) {
        const float *k = gpt149_k(a, b, h, j);
        float dot = 0;
        for (int x = 0; x < a->head_dim; x++)
            dot += q[x] * k[x];
        s[j] = a->scale * dot;
        m = std::fmax(m, s[j]);
    }

    // s = exp(s - m), and its sum l. Without m, exp overflows beyond scores of about 88.
    float l = 0;
    for (int j = 0; j < n; j++) {
        s[j] = std::exp(s[j] - m);
        l += s[j];
    }

    // out = s V / l.
    float *out = gpt149_out(a, b, h, i);
    for (int x = 0; x < a->head_dim; x++)
        out[x] = 0;
    for (int j = 0; j < n; j++) {
        const float *v = gpt149_v(a, b, h, j);
        for (int x = 0; x < a->head_dim; x++)
            out[x] += s[j] / l * v[x];
    }
}

// NULL when it is done, or why it declines: a static string, before anything is written.
static const char *run(const gpt149_args *a) {
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++)
                attend(a, b, h, i, (float *)a->workspace);
    return nullptr;
}

// Name, idea and extra memory are what `gpt149` prints of it. Behind run a kernel may claim more
// that it computes, such as GPT149_WINDOW (see gpt149.h): no call asks for what is not claimed.
GPT149_KERNEL({"NAME", "one query at a time", "n_kv", workspace_bytes, run})
