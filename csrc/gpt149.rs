// gpt149.rs: the contract of gpt149.h for a kernel in Rust, where it is explained.
//
// A kernel file, which rustc compiles by itself (edition 2021, 1.60 or later), begins with
//
//   #[macro_use]
//   #[allow(dead_code)]
//   mod gpt149 { include!(env!("GPT149_RS")); }
//
// and ends with gpt149_kernel!({"name", "idea", "memory", workspace_bytes, run, features}), where
//
//   fn workspace_bytes(a: &gpt149::Args) -> usize
//   fn run(a: &gpt149::Args) -> Result<(), &'static [u8]>     Err(b"why it declines\0")
//
// Cargo does it too: a cdylib, with this file's path in GPT149_RS, and `-a target/release/libX.so`.
use std::os::raw::{c_char, c_void};
use std::slice;

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

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Args {
    pub abi_version: i32,
    pub struct_size: i32,
    pub dtype: i32,
    pub kv_dtype: i32,
    pub causal: i32,
    pub n_threads: i32,
    pub batch: i32,
    pub n_head: i32,
    pub n_kv_head: i32,
    pub head_dim: i32,
    pub n_q: i32,
    pub n_kv: i32,
    pub br: i32,
    pub bc: i32,
    pub scale: f32,
    pub q: *const c_void,
    pub k: *const c_void,
    pub v: *const c_void,
    pub out: *mut c_void,
    pub workspace: *mut c_void,
    pub stream: *mut c_void,
    pub q_stride: [i64; 3],
    pub k_stride: [i64; 3],
    pub v_stride: [i64; 3],
    pub out_stride: [i64; 3],
    pub window: i32,
    pub head_dim_v: i32,
    pub softcap: f32,
    pub alibi_slopes: *const f32,
    pub sinks: *const f32,
    pub kv_begin: *const i32,
    pub lse: *mut f32,
    pub lse_stride: [i64; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Kernel {
    pub name: *const c_char,
    pub idea: *const c_char,
    pub memory: *const c_char,
    pub workspace_bytes: extern "C" fn(*const Args) -> i64,
    pub run: extern "C" fn(*const Args) -> *const c_char,
    pub features: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Table {
    pub abi_version: i32,
    pub args_size: i32,
    pub kernel_size: i32,
    pub n_kernels: i32,
    pub kernels: *const Kernel,
    pub isa: *const c_char,
}
// end of structs

unsafe impl Sync for Kernel {}
unsafe impl Sync for Table {}

pub const ISA: &str = if cfg!(target_feature = "avx512f") {
    "avx512\0"
} else if cfg!(all(target_feature = "avx2", target_feature = "fma")) {
    "avx2\0"
} else if cfg!(target_feature = "neon") {
    "neon\0"
} else {
    "portable\0"
};

/// Row i of a tensor: n elements, f32 or (bfloat16) u16.
///
/// # Safety
/// The tensor has such elements there.
pub unsafe fn row<'a, T>(
    tensor: *const c_void, stride: &[i64; 3], b: usize, h: usize, i: usize, n: usize,
) -> &'a [T] {
    let at = b as i64 * stride[0] + h as i64 * stride[1] + i as i64 * stride[2];
    slice::from_raw_parts((tensor as *const T).offset(at as isize), n)
}

/// The same, to be written: for the one thread that this row is dealt to.
///
/// # Safety
/// As `row`.
pub unsafe fn row_mut<'a, T>(
    tensor: *mut c_void, stride: &[i64; 3], b: usize, h: usize, i: usize, n: usize,
) -> &'a mut [T] {
    let at = b as i64 * stride[0] + h as i64 * stride[1] + i as i64 * stride[2];
    slice::from_raw_parts_mut((tensor as *mut T).offset(at as isize), n)
}

// The rows of float32 tensors, which all are for a kernel that claims no bfloat16.
impl Args {
    pub fn q(&self, b: usize, h: usize, i: usize) -> &[f32] {
        unsafe { row(self.q, &self.q_stride, b, h, i, self.head_dim as usize) }
    }
    pub fn k(&self, b: usize, h: usize, j: usize) -> &[f32] {
        unsafe { row(self.k, &self.k_stride, b, self.kv_head(h), j, self.head_dim as usize) }
    }
    pub fn v(&self, b: usize, h: usize, j: usize) -> &[f32] {
        unsafe { row(self.v, &self.v_stride, b, self.kv_head(h), j, self.head_dim_v()) }
    }
    /// A row of the output. Each exists once: take it in one thread, and once at a time.
    #[allow(clippy::mut_from_ref)]
    pub fn out(&self, b: usize, h: usize, i: usize) -> &mut [f32] {
        unsafe { row_mut(self.out, &self.out_stride, b, h, i, self.head_dim_v()) }
    }
    #[allow(clippy::mut_from_ref)]
    pub fn lse(&self, b: usize, h: usize, i: usize) -> &mut f32 {
        let at = b as i64 * self.lse_stride[0] + h as i64 * self.lse_stride[1] + i as i64;
        unsafe { &mut *self.lse.offset(at as isize) }
    }
    /// n elements of the workspace, from element `from` on. Parts that overlap are the caller's sin.
    #[allow(clippy::mut_from_ref)]
    pub fn workspace<T>(&self, from: usize, n: usize) -> &mut [T] {
        unsafe { slice::from_raw_parts_mut((self.workspace as *mut T).add(from), n) }
    }
    pub fn kv_head(&self, h: usize) -> usize {
        h / (self.n_head / self.n_kv_head) as usize
    }
    pub fn head_dim_v(&self) -> usize {
        (if self.head_dim_v != 0 { self.head_dim_v } else { self.head_dim }) as usize
    }
    /// Query i of batch b sees the keys first .. visible, if that is any.
    pub fn visible(&self, i: usize) -> usize {
        if self.causal != 0 {
            i + 1 + (self.n_kv - self.n_q) as usize
        } else {
            self.n_kv as usize
        }
    }
    pub fn first(&self, b: usize, i: usize) -> usize {
        let begin = if self.kv_begin.is_null() { 0 } else { unsafe { *self.kv_begin.add(b) } };
        let hidden = if self.window != 0 { self.visible(i) as i32 - self.window } else { 0 };
        begin.max(hidden) as usize
    }
    /// The score of query i with key j, from their dot product: scale, softcap and slope.
    pub fn score(&self, h: usize, i: usize, j: usize, dot: f32) -> f32 {
        let mut s = self.scale * dot;
        if self.softcap > 0.0 {
            s = self.softcap * (s / self.softcap).tanh();
        }
        if !self.alibi_slopes.is_null() {
            let distance = j as i32 - (i as i32 + self.n_kv - self.n_q);
            s += unsafe { *self.alibi_slopes.add(h) } * distance as f32;
        }
        s
    }
    pub fn sink(&self, h: usize) -> f32 {
        if self.sinks.is_null() { f32::NEG_INFINITY } else { unsafe { *self.sinks.add(h) } }
    }
}

// Ends a kernel file: the exported table, of one kernel or, with several braces, of more.
macro_rules! gpt149_kernel {
    ($({$name:literal, $idea:literal, $memory:literal, $workspace_bytes:ident, $run:ident,
        $features:expr}),+ $(,)?) => {
        static GPT149_LIST: &[gpt149::Kernel] = &[$(gpt149::Kernel {
            name: concat!($name, "\0").as_ptr() as *const std::os::raw::c_char,
            idea: concat!($idea, "\0").as_ptr() as *const std::os::raw::c_char,
            memory: concat!($memory, "\0").as_ptr() as *const std::os::raw::c_char,
            workspace_bytes: {
                extern "C" fn asked(a: *const gpt149::Args) -> i64 {
                    $workspace_bytes(unsafe { &*a }) as i64
                }
                asked
            },
            run: {
                extern "C" fn called(a: *const gpt149::Args) -> *const std::os::raw::c_char {
                    match $run(unsafe { &*a }) {
                        Ok(()) => std::ptr::null(),
                        Err(why) => why.as_ptr() as *const std::os::raw::c_char,
                    }
                }
                called
            },
            features: $features,
        }),+];
        #[no_mangle]
        #[allow(non_upper_case_globals)]
        pub static gpt149_kernels: gpt149::Table = gpt149::Table {
            abi_version: gpt149::ABI_VERSION,
            args_size: std::mem::size_of::<gpt149::Args>() as i32,
            kernel_size: std::mem::size_of::<gpt149::Kernel>() as i32,
            n_kernels: GPT149_LIST.len() as i32,
            kernels: GPT149_LIST.as_ptr(),
            isa: gpt149::ISA.as_ptr() as *const std::os::raw::c_char,
        };
    };
}
