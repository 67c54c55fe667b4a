// NAME: attention, one query at a time. Right and slow: a start for something faster.
//
//   out = softmax(scale * Q K^T + mask) V, for every batch b and head h
//
// gpt149.h says what a kernel may rely on, gpt149.rs what it is in Rust. In short:
// - q and out are (batch, n_head, n_q, head_dim), k and v (batch, n_kv_head, n_kv, head_dim), f32.
//   A row is a slice of head_dim: a.q(b, h, i) and the like. All else is strided.
// - Query i sees the keys 0 .. a.visible(i) - 1. n_q = n_kv is a prefill, n_q = 1 a decode step.
// - out and workspace hold garbage at first. Write every element of out, nothing else.
// - run() may be called from several threads at once: no static buffers.
//
//   gpt149 check FILE --watch          right or wrong, and why, at every save
//   gpt149 generate "ROMEO:" -a FILE   text through this kernel, and its speed
#[macro_use]
#[allow(dead_code)]
#[rustfmt::skip]
mod gpt149 { include!(env!("GPT149_RS")); }
use gpt149::Args;

// Bytes of scratch memory that run() finds in a.workspace: here one row of scores.
fn workspace_bytes(a: &Args) -> usize {
    a.n_kv as usize * std::mem::size_of::<f32>()
}

fn attend(a: &Args, b: usize, h: usize, i: usize, scores: &mut [f32]) {
    let q = a.q(b, h, i);
    let s = &mut scores[..a.visible(i)];

    // s = scale * q K^T, and its maximum m.
    let mut m = f32::NEG_INFINITY;
    for (j, score) in s.iter_mut().enumerate() {
        let mut dot = 0.0;
        for (x, y) in q.iter().zip(a.k(b, h, j)) {
            dot += x * y;
        }
        *score = a.scale * dot;
        m = m.max(*score);
    }

    // s = exp(s - m), and its sum l. Without m, exp overflows beyond scores of about 88.
    let mut l = 0.0;
    for score in s.iter_mut() {
        *score = (*score - m).exp();
        l += *score;
    }

    // out = s V / l.
    let out = a.out(b, h, i);
    out.fill(0.0);
    for (j, weight) in s.iter().enumerate() {
        for (o, v) in out.iter_mut().zip(a.v(b, h, j)) {
            *o += weight / l * v;
        }
    }
}

// Err(b"why it declines\0"), before anything is written, where it cannot.
fn run(a: &Args) -> Result<(), &'static [u8]> {
    let scores = a.workspace(0, a.n_kv as usize);
    for b in 0..a.batch as usize {
        for h in 0..a.n_head as usize {
            for i in 0..a.n_q as usize {
                attend(a, b, h, i, scores);
            }
        }
    }
    Ok(())
}

// Name, idea and extra memory are what `gpt149` prints of it. In the place of the 0 a kernel may
// claim what it computes, such as gpt149::WINDOW (see gpt149.h): no call asks for what is not claimed.
gpt149_kernel!({"NAME", "one query at a time", "n_kv", workspace_bytes, run, 0});
