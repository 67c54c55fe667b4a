// gpt149.zig: the contract of gpt149.h for a kernel in Zig, where it is explained.
//
// A kernel file imports it as "gpt149" and exports the table:
//
//   const gpt149 = @import("gpt149");
//   pub const panic = gpt149.panic;                                if you like
//   fn workspaceBytes(a: *const gpt149.Args) callconv(.c) i64
//   fn run(a: *const gpt149.Args) callconv(.c) ?[*:0]const u8      null, or why it declines
//   export const gpt149_kernels = gpt149.table(&.{.{ .name = "mine", ... }});
//
// By hand: zig build-lib -dynamic --dep gpt149 -Mroot=mine.zig -Mgpt149=THIS -femit-bin=libmine.so
const std = @import("std");
const builtin = @import("builtin");

// structs
pub const ABI_VERSION: i32 = 3;
pub const FLOAT32: i32 = 0;
pub const BFLOAT16: i32 = 1;
pub const WINDOW: u32 = 1;
pub const SOFTCAP: u32 = 2;
pub const ALIBI: u32 = 4;
pub const SINKS: u32 = 8;
pub const KV_BEGIN: u32 = 16;
pub const HEAD_DIM_V: u32 = 32;
pub const LSE: u32 = 64;
pub const KV_BFLOAT16: u32 = 128;
pub const Q_BFLOAT16: u32 = 256;

pub const Args = extern struct {
    abi_version: i32,
    struct_size: i32,
    dtype: i32,
    kv_dtype: i32,
    causal: i32,
    n_threads: i32,
    batch: i32,
    n_head: i32,
    n_kv_head: i32,
    head_dim: i32,
    n_q: i32,
    n_kv: i32,
    br: i32,
    bc: i32,
    scale: f32,
    q: ?*const anyopaque,
    k: ?*const anyopaque,
    v: ?*const anyopaque,
    out: ?*anyopaque,
    workspace: ?*anyopaque,
    stream: ?*anyopaque,
    q_stride: [3]i64,
    k_stride: [3]i64,
    v_stride: [3]i64,
    out_stride: [3]i64,
    window: i32,
    head_dim_v: i32,
    softcap: f32,
    alibi_slopes: ?[*]const f32,
    sinks: ?[*]const f32,
    kv_begin: ?[*]const i32,
    lse: ?[*]f32,
    lse_stride: [2]i64,
};

pub const Kernel = extern struct {
    name: [*:0]const u8,
    idea: [*:0]const u8,
    memory: [*:0]const u8,
    workspace_bytes: *const fn (*const Args) callconv(.c) i64,
    run: *const fn (*const Args) callconv(.c) ?[*:0]const u8,
    features: u32,
};

pub const Table = extern struct {
    abi_version: i32,
    args_size: i32,
    kernel_size: i32,
    n_kernels: i32,
    kernels: [*]const Kernel,
    isa: [*:0]const u8,
};
// end of structs

const x86 = std.Target.x86;
const cpu = builtin.cpu;
pub const isa: [*:0]const u8 = if (cpu.arch == .aarch64)
    "neon"
else if (cpu.arch != .x86_64)
    "portable"
else if (x86.featureSetHas(cpu.features, .avx512f))
    "avx512"
else if (x86.featureSetHas(cpu.features, .avx2) and x86.featureSetHas(cpu.features, .fma))
    "avx2"
else
    "portable";

/// What a library exports as gpt149_kernels.
pub fn table(comptime kernels: []const Kernel) Table {
    return .{
        .abi_version = ABI_VERSION,
        .args_size = @sizeOf(Args),
        .kernel_size = @sizeOf(Kernel),
        .n_kernels = kernels.len,
        .kernels = kernels.ptr,
        .isa = isa,
    };
}

/// A number of the call as an index or a size.
pub fn size(n: i32) usize {
    return @intCast(n);
}

/// Where row i of a tensor begins; T is f32 or (bfloat16) u16.
pub fn row(comptime T: type, tensor: ?*const anyopaque, stride: [3]i64, b: usize, h: usize, i: usize) [*]T {
    const s = [3]usize{ @intCast(stride[0]), @intCast(stride[1]), @intCast(stride[2]) };
    const memory: [*]T = @ptrCast(@alignCast(@constCast(tensor.?)));
    return memory + b * s[0] + h * s[1] + i * s[2];
}

// The rows of float32 tensors, which all are for a kernel that claims no bfloat16.
pub fn q(a: *const Args, b: usize, h: usize, i: usize) []const f32 {
    return row(f32, a.q, a.q_stride, b, h, i)[0..size(a.head_dim)];
}
pub fn k(a: *const Args, b: usize, h: usize, j: usize) []const f32 {
    return row(f32, a.k, a.k_stride, b, kvHead(a, h), j)[0..size(a.head_dim)];
}
pub fn v(a: *const Args, b: usize, h: usize, j: usize) []const f32 {
    return row(f32, a.v, a.v_stride, b, kvHead(a, h), j)[0..headDimV(a)];
}
pub fn out(a: *const Args, b: usize, h: usize, i: usize) []f32 {
    return row(f32, a.out, a.out_stride, b, h, i)[0..headDimV(a)];
}
pub fn lse(a: *const Args, b: usize, h: usize, i: usize) *f32 {
    return &a.lse.?[b * @as(usize, @intCast(a.lse_stride[0])) + h * @as(usize, @intCast(a.lse_stride[1])) + i];
}
/// n elements of the workspace.
pub fn workspace(comptime T: type, a: *const Args, n: usize) []T {
    const memory: [*]T = @ptrCast(@alignCast(a.workspace.?));
    return memory[0..n];
}
pub fn kvHead(a: *const Args, h: usize) usize {
    return h / size(@divExact(a.n_head, a.n_kv_head));
}
pub fn headDimV(a: *const Args) usize {
    return size(if (a.head_dim_v != 0) a.head_dim_v else a.head_dim);
}

/// Query i of batch b sees the keys first .. visible, if that is any.
pub fn visible(a: *const Args, i: usize) usize {
    return if (a.causal != 0) i + 1 + size(a.n_kv - a.n_q) else size(a.n_kv);
}
pub fn first(a: *const Args, b: usize, i: usize) usize {
    const begin: usize = if (a.kv_begin) |starts| size(starts[b]) else 0;
    const hidden: usize = if (a.window != 0) visible(a, i) -| size(a.window) else 0;
    return @max(begin, hidden);
}

/// The score of query i with key j, from their dot product: scale, softcap and slope.
pub fn score(a: *const Args, h: usize, i: usize, j: usize, dot: f32) f32 {
    var s = a.scale * dot;
    if (a.softcap > 0) s = a.softcap * std.math.tanh(s / a.softcap);
    if (a.alibi_slopes) |slopes| {
        const position: i64 = @intCast(i + size(a.n_kv - a.n_q));
        s += slopes[h] * @as(f32, @floatFromInt(@as(i64, @intCast(j)) - position));
    }
    return s;
}
pub fn sink(a: *const Args, h: usize) f32 {
    return if (a.sinks) |s| s[h] else -std.math.inf(f32);
}

/// A panic that tells what, not where: std's, which tells the stack, takes two seconds to compile.
pub const panic = std.debug.FullPanic(tell);
fn tell(what: []const u8, _: ?usize) noreturn {
    for ([_][]const u8{ "panic: ", what, "\n" }) |part| _ = std.c.write(2, part.ptr, part.len);
    std.c.abort();
}
