//! A kernel's work as data: buffers, launches, and what must come out. The same job runs on the CPU and on a device.

use trivium_cuda::{Kernel, Plan};
use trivium_cuda_shim::{Buffers, Fault, VARIANTS, launch};

/// Memory of one element type. `lead` elements stand before what the kernel is given, and decide its alignment.
#[derive(Debug, Clone)]
pub enum Memory {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
}

impl Memory {
    pub fn i32(values: &[i32]) -> Self {
        Self::U32(values.iter().map(|x| x.cast_unsigned()).collect())
    }

    pub fn f32(values: &[f32]) -> Self {
        Self::U32(values.iter().map(|x| x.to_bits()).collect())
    }

    pub fn u32s(&self) -> &[u32] {
        match self {
            Self::U32(v) => v,
            other => panic!("{other:?} is not of 32-bit words"),
        }
    }

    pub fn i32s(&self) -> Vec<i32> {
        self.u32s().iter().map(|x| x.cast_signed()).collect()
    }

    pub fn f32s(&self) -> Vec<f32> {
        self.u32s().iter().map(|&x| f32::from_bits(x)).collect()
    }

    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::U64(v) => v.len(),
        }
    }
}

/// One buffer of a job: the name that findings use, its contents, whether a kernel may write it.
#[derive(Debug, Clone)]
pub struct Buffer {
    pub name: &'static std::ffi::CStr,
    pub memory: Memory,
    pub writable: bool,
}

pub fn read(name: &'static std::ffi::CStr, memory: Memory) -> Buffer {
    Buffer { name, memory, writable: false }
}

pub fn write(name: &'static std::ffi::CStr, memory: Memory) -> Buffer {
    Buffer { name, memory, writable: true }
}

/// What a kernel is to do.
pub trait Job: std::fmt::Debug {
    fn buffers(&self) -> Vec<Buffer>;
    /// The kernel, for buffers at these addresses.
    fn kernel(&self, at: &[u64]) -> Box<dyn Kernel>;
    /// Its launches on the CPU: where a job asks for it, one block, so that the kernel's loops cover the rest.
    fn plans(&self, at: &[u64]) -> Vec<Plan> {
        self.kernel(at).plan().unwrap()
    }
    /// What is wrong with the buffers afterwards.
    fn check(&self, after: &[Buffer]) -> Result<(), String>;
    /// Orders fibres and blocks on the CPU.
    fn seed(&self) -> u64;
}

/// Runs a job on the CPU; kernels that the variant does not change run as they are.
pub fn on_cpu(job: &dyn Job, variant: &str) -> Result<(), String> {
    let mut buffers = job.buffers();
    let mut shim = Buffers::new();
    let mut at = Vec::new();
    for buffer in &mut buffers {
        let name = buffer.name;
        at.push(match (&mut buffer.memory, buffer.writable) {
            (Memory::U8(v), true) => shim.writable(name, v),
            (Memory::U16(v), true) => shim.writable(name, v),
            (Memory::U32(v), true) => shim.writable(name, v),
            (Memory::U64(v), true) => shim.writable(name, v),
            (Memory::U8(v), false) => shim.read_only(name, v),
            (Memory::U16(v), false) => shim.read_only(name, v),
            (Memory::U32(v), false) => shim.read_only(name, v),
            (Memory::U64(v), false) => shim.read_only(name, v),
        });
    }
    for mut plan in job.plans(&at) {
        let (entry, grid, block) = (plan.entry.to_string_lossy(), plan.grid, plan.block);
        let variant = if VARIANTS.contains(&(entry.as_ref(), variant)) { variant } else { "" };
        // SAFETY: the parameters are those that the driver would get for this entry.
        plan.with_params(|params| unsafe {
            launch(&entry, variant, grid, block, job.seed(), &shim, params)
        })
        .map_err(|fault| match fault {
            Fault::Findings(text) => text,
            other => format!("{other:?}"),
        })?;
    }
    drop(shim);
    job.check(&buffers)
}

/// Whether the variant changes a kernel of this job.
fn uses(job: &dyn Job, variant: &str) -> bool {
    // Addresses as good as any: nothing runs.
    job.plans(&[4096; 32])
        .iter()
        .any(|plan| VARIANTS.contains(&(plan.entry.to_string_lossy().as_ref(), variant)))
}

/// Finds, for each planted bug of the kernels that begin with `family`, a job that it fails. Returns how.
pub fn catch_all(family: &str, jobs: &[&dyn Job]) -> Vec<String> {
    let mut variants: Vec<&str> = VARIANTS
        .iter()
        .filter(|(kernel, variant)| kernel.starts_with(family) && !variant.is_empty())
        .map(|&(_, variant)| variant)
        .collect();
    variants.sort_unstable();
    variants.dedup();
    let (mut how, mut survived) = (Vec::new(), Vec::new());
    for variant in variants {
        // A job whose kernels the variant does not change would only show that they are sound.
        let mut changed = jobs.iter().filter(|job| uses(**job, variant));
        match changed.find_map(|job| on_cpu(*job, variant).err()) {
            Some(text) => {
                how.push(format!("{variant}: {}", text.lines().next().unwrap_or_default()));
            }
            None => survived.push(variant),
        }
    }
    assert!(survived.is_empty(), "{family}: not caught: {survived:?}");
    how
}
