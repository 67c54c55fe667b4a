// NAME: attention, one query at a time. Right and slow: a start for something faster.
//
//   out = softmax(scale * Q K^T + mask) V, for every batch b and head h
//
// gpt149.h says what a kernel may rely on, gpt149.zig what it is in Zig. In short:
// - q and out are (batch, n_head, n_q, head_dim), k and v (batch, n_kv_head, n_kv, head_dim), f32.
//   A row is a slice of head_dim: gpt149.q(a, b, h, i) and the like. All else is strided.
// - Query i sees the keys 0 .. gpt149.visible(a, i) - 1. n_q = n_kv is a prefill, n_q = 1 a decode
//   step.
// - out and workspace hold garbage at first. Write every element of out, nothing else.
// - run() may be called from several threads at once: no variables outside of it.
//
//   gpt149 check FILE --watch          right or wrong, and why, at every save
//   gpt149 generate "ROMEO:" -a FILE   text through this kernel, and its speed
const std = @import("std");
const gpt149 = @import("gpt149");
pub const panic = gpt149.panic; // without it, what ends in a panic takes seconds to compile

// Bytes of scratch memory that run() finds in a.workspace: here one row of scores.
fn workspaceBytes(a: *const gpt149.Args) callconv(.c) i64 {
    return @as(i64, a.n_kv) * @sizeOf(f32);
}

fn attend(a: *const gpt149.Args, b: usize, h: usize, i: usize, scores: []f32) void {
    @setRuntimeSafety(true); // an index out of bounds ends in a sentence; fast kernels do without
    const q = gpt149.q(a, b, h, i);
    const s = scores[0..gpt149.visible(a, i)];

    // s = scale * q K^T, and its maximum m.
    var m = -std.math.inf(f32);
    for (s, 0..) |*score, j| {
        var dot: f32 = 0;
        for (q, gpt149.k(a, b, h, j)) |x, y| dot += x * y;
        score.* = a.scale * dot;
        m = @max(m, score.*);
    }

    // s = exp(s - m), and its sum l. Without m, exp overflows beyond scores of about 88.
    var l: f32 = 0;
    for (s) |*score| {
        score.* = @exp(score.* - m);
        l += score.*;
    }

    // out = s V / l.
    const out = gpt149.out(a, b, h, i);
    @memset(out, 0);
    for (s, 0..) |weight, j| {
        for (out, gpt149.v(a, b, h, j)) |*o, v| o.* += weight / l * v;
    }
}

// null when it is done, or why it declines: a string, before anything is written.
fn run(a: *const gpt149.Args) callconv(.c) ?[*:0]const u8 {
    const scores = gpt149.workspace(f32, a, gpt149.size(a.n_kv));
    for (0..gpt149.size(a.batch)) |b| {
        for (0..gpt149.size(a.n_head)) |h| {
            for (0..gpt149.size(a.n_q)) |i| attend(a, b, h, i, scores);
        }
    }
    return null;
}

// Name, idea and extra memory are what `gpt149` prints of it. A kernel may claim features that it
// computes, such as gpt149.WINDOW (see gpt149.h): no call asks for what is not claimed.
export const gpt149_kernels = gpt149.table(&.{.{
    .name = "NAME",
    .idea = "one query at a time",
    .memory = "n_kv",
    .workspace_bytes = workspaceBytes,
    .run = run,
    .features = 0,
}});
