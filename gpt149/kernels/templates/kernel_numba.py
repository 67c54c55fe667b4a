"""NAME: attention, one query at a time, compiled by Numba. Right and slow: a start for more.

It is a kernel as one in C++ is (csrc/gpt149.h), called without Python. In short:
- q and out are (batch, n_head, n_q, head_dim), k and v (batch, n_kv_head, n_kv, head_dim).
  A row is float32 and contiguous: row(a.q, a.q_stride, b, h, i)[x]. All else is strided, and no
  index is checked.
- If a.causal, query i sees the keys j <= i + n_kv - n_q. n_q = n_kv is a prefill, n_q = 1 a decode
  step.
- out and workspace hold garbage at first. Write every element of out, nothing else.
- run may be called from several threads at once: no global arrays.

gpt149 check FILE --watch          right or wrong, and why, at every save
gpt149 generate "ROMEO:" -a FILE   text through this kernel, and its speed
"""

import math

from numba import carray, cfunc, float32

from gpt149.kernels.numba import RUN, WORKSPACE_BYTES, Kernel, floats, row


@cfunc(WORKSPACE_BYTES)
def workspace_bytes(args):
    """Bytes of scratch memory that run finds at a.workspace: here one row of scores."""
    return 4 * carray(args, 1)[0].n_kv


@cfunc(RUN)
def run(args):
    """softmax(scale Q K^T + mask) V; 0 when it is done."""
    a = carray(args, 1)[0]
    s = floats(a.workspace)
    group = a.n_head // a.n_kv_head
    for b in range(a.batch):
        for h in range(a.n_head):
            for i in range(a.n_q):
                q = row(a.q, a.q_stride, b, h, i)
                n = i + a.n_kv - a.n_q + 1 if a.causal else a.n_kv

                # s = scale * q K^T, and its maximum m.
                m = -math.inf
                for j in range(n):
                    k = row(a.k, a.k_stride, b, h // group, j)
                    dot = float32(0)
                    for x in range(a.head_dim):
                        dot += q[x] * k[x]
                    s[j] = a.scale * dot
                    m = max(m, s[j])

                # s = exp(s - m), and its sum l. Without m, exp overflows beyond scores of 88.
                l = float32(0)
                for j in range(n):
                    s[j] = math.exp(s[j] - m)
                    l += s[j]

                # out = s V / l.
                out = row(a.out, a.out_stride, b, h, i)
                for x in range(a.head_dim):
                    out[x] = 0
                for j in range(n):
                    v = row(a.v, a.v_stride, b, h // group, j)
                    for x in range(a.head_dim):
                        out[x] += s[j] / l * v[x]
    return 0


# Name, idea and extra memory are what `gpt149` prints of it. Behind run a kernel may claim more
# that it computes (gpt149_feature in gpt149.h), such as Feature.WINDOW, which is imported from
# gpt149.kernels.numba too: no call asks for what is not claimed.
gpt149_kernels = [Kernel("NAME", "one query at a time", "n_kv", workspace_bytes, run)]
