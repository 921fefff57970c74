//! The kernels that measure ceilings, as units to compile and cases to time.

use std::path::{Path, PathBuf};

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::{
    Arg, Case, DeviceInfo, DeviceKind, Geometry, Launch, Number, Reference, Role, Sequence, Source, TensorSpec,
    TimedCase,
};

use super::Peak;
use crate::build::{Artifact, Entry, Param, Unit};
use crate::config::Backend;

const CUDA: &str = include_str!("cuda.cu");
const HOST: &str = include_str!("host.c");

/// Threads of every block, as in the sources.
const BLOCK: u32 = 256;
/// Number of sums of the host's kernel.
const HOST_SUMS: u64 = 192;
/// Rounds after which a sum of FP8 products restarts, as in `cuda.cu`.
const F8_ROUNDS: i64 = 256;
/// Largest copy in bytes, in each direction.
const CUDA_COPY: u64 = 256 << 20;
const HOST_COPY: u64 = 256 << 20;

/// A kernel that measures one ceiling.
#[derive(Debug)]
pub(crate) struct Micro {
    pub(crate) peak: Peak,
    pub(crate) how: String,
    /// Bytes or operations of one launch.
    pub(crate) amount: f64,
    entry: &'static str,
    reference: &'static str,
    blocks: u32,
    tensors: Vec<TensorSpec>,
    scalar: (DType, i64),
    /// Expected result, which the reference gets as an argument.
    expected: Option<f64>,
}

/// The name and text of the file with a backend's kernels.
pub(crate) fn source(backend: Backend) -> (&'static str, &'static str) {
    if backend == Backend::C { ("host.c", HOST) } else { ("cuda.cu", CUDA) }
}

/// All kernels that measure a device; none for a device without such kernels.
pub(crate) fn all(device: &DeviceInfo, arch: Option<&str>) -> Vec<Micro> {
    match device.kind {
        DeviceKind::Cuda => cuda(device, arch.is_some_and(|arch| arch == "sm_90a")),
        DeviceKind::Host => host(device),
        DeviceKind::Fake => Vec::new(),
    }
}

fn cuda(device: &DeviceInfo, wgmma: bool) -> Vec<Micro> {
    let multiprocessors = device.multiprocessors;
    let copied = CUDA_COPY.min(device.memory_bytes / 16).max(1 << 20) / 16 * 16;
    let (blocks, rounds) = (48 * multiprocessors, 2048);
    let sums = |name, peak, how: &str, blocks: u32, rounds: i64, flops: f64, each: f64| {
        let amount = flops * rounds as f64 * f64::from(blocks);
        let n = u64::from(blocks) * u64::from(BLOCK);
        // Tensor cores count from 0, multiply-adds from 1.
        let start = if peak == Peak::Fp32 { 1.0 } else { 0.0 };
        let counted = if peak == Peak::TensorF8 { F8_ROUNDS } else { rounds };
        Micro::sums(name, peak, how.to_owned(), blocks, n, rounds, amount, start + each * counted as f64)
    };
    // Operations of one round of a block of 256 threads.
    let fma = f64::from(BLOCK) * 8.0 * 2.0;
    let mut all = vec![
        Micro::copy(copied, 16, 32 * multiprocessors),
        sums("fma_f32", Peak::Fp32, "fused multiply-adds", blocks, rounds, fma, 1.0),
    ];
    let capability = device.compute_capability.unwrap_or_default();
    let mut tensor = |peak, depth: f64| {
        all.push(if wgmma {
            let how = format!("wgmma m64n256k{depth} from shared memory");
            // Two warpgroups.
            let flops = 2.0 * 2.0 * 64.0 * 256.0 * depth;
            sums("tensor", peak, &how, multiprocessors, 2048, flops, depth)
        } else {
            let how = format!("mma.sync m16n8k{depth} from registers; newer instructions may reach more");
            // Eight warps, eight chains each.
            let flops = 8.0 * 8.0 * 2.0 * 16.0 * 8.0 * depth;
            sums("tensor", peak, &how, 2 * multiprocessors, 2048, flops, depth)
        });
    };
    if capability >= (8, 0) {
        tensor(Peak::TensorF16, 16.0);
    }
    if capability >= (8, 9) {
        tensor(Peak::TensorF8, 32.0);
    }
    all
}

fn host(device: &DeviceInfo) -> Vec<Micro> {
    let copied = (2 * device.cache_bytes).clamp(16 << 20, HOST_COPY).min(device.memory_bytes / 32).max(1 << 20);
    let rounds = 1 << 16;
    let amount = 2.0 * HOST_SUMS as f64 * f64::from(rounds);
    vec![
        Micro::copy(copied / 16 * 16, 8, 1),
        Micro::sums(
            "fma_f32",
            Peak::Fp32,
            "fused multiply-adds of one core".to_owned(),
            1,
            HOST_SUMS,
            i64::from(rounds),
            amount,
            f64::from(rounds + 1),
        ),
    ]
}

impl Micro {
    /// A copy of `bytes` in words of `word` bytes.
    fn copy(bytes: u64, word: u64, blocks: u32) -> Self {
        let tensor = |name: &str, role, source| TensorSpec {
            name: name.to_owned(),
            dtype: DType::I64,
            dims: vec![bytes / 8],
            role,
            source,
        };
        let from = tensor("from", Role::In, Source::Arange { start: 0.0, step: 1.0 });
        Self {
            peak: Peak::Copy,
            how: format!("{} MiB read and as many written", bytes >> 20),
            amount: 2.0 * bytes as f64,
            entry: "copy",
            reference: "copy_reference",
            blocks,
            tensors: vec![from, tensor("to", Role::Out, Source::None)],
            scalar: (DType::I64, (bytes / word) as i64),
            expected: None,
        }
    }

    /// `n` sums with the result `expected` after `rounds` rounds.
    #[allow(clippy::too_many_arguments, reason = "plain numbers of a table above")]
    fn sums(
        entry: &'static str,
        peak: Peak,
        how: String,
        blocks: u32,
        n: u64,
        rounds: i64,
        amount: f64,
        expected: f64,
    ) -> Self {
        let tensor = |name: &str, n, role, source| TensorSpec {
            name: name.to_owned(),
            dtype: DType::F32,
            dims: vec![n],
            role,
            source,
        };
        let tensors = vec![tensor("one", 16, Role::In, Source::Constant(1.0)), tensor("o", n, Role::Out, Source::None)];
        let scalar = (DType::I32, rounds);
        Self { peak, how, amount, entry, reference: "all_reference", blocks, tensors, scalar, expected: Some(expected) }
    }

    /// The kernel and its reference, as units to compile.
    pub(crate) fn units(&self, source: &Path, arch: Option<&str>) -> [Unit; 2] {
        let c = arch.is_none();
        let mut flags = vec!["-O3".to_owned()];
        if c {
            flags.push("-march=native".to_owned());
        }
        let bits = match self.peak {
            Peak::TensorF16 => Some("16"),
            Peak::TensorF8 => Some("8"),
            Peak::Copy | Peak::Fp32 => None,
        };
        let wgmma = bits.filter(|_| arch == Some("sm_90a")).map(|_| ("WGMMA".to_owned(), "1".to_owned()));
        let tensor: Vec<_> = bits.map(|bits| ("TENSOR".to_owned(), bits.to_owned())).into_iter().chain(wgmma).collect();
        let signature = |float, scalar| {
            let tensors = self.tensors.iter().map(|tensor| Param::Tensor {
                dtype: if tensor.dtype.is_float() { float } else { tensor.dtype },
                writable: Some(tensor.role == Role::Out),
            });
            tensors.chain([Param::Scalar(scalar)]).collect()
        };
        let unit = |entry: &str, float, scalar, macros: &[(String, String)]| Unit {
            backend: if c { Backend::C } else { Backend::Cuda },
            source: source.to_owned(),
            entries: vec![Entry { name: entry.to_owned(), signature: signature(float, scalar) }],
            flags: flags.clone(),
            macros: macros.to_vec(),
            constants: Vec::new(),
            headers: Vec::new(),
            arch: arch.map(str::to_owned),
            directory: source.parent().map(PathBuf::from).unwrap_or_default(),
        };
        let told = if self.expected.is_some() { DType::F64 } else { self.scalar.0 };
        [unit(self.entry, DType::F32, self.scalar.0, &tensor), unit(self.reference, DType::F64, told, &[])]
    }

    /// The kernel with its reference, as a case to time.
    pub(crate) fn case(&self, device: DeviceKind, [kernel, reference]: &[Artifact; 2]) -> TimedCase {
        let geometry = Geometry { grid: [self.blocks, 1, 1], block: [BLOCK, 1, 1], ..Geometry::default() };
        let sequence = |artifact: &Artifact, dtype, value| Sequence {
            device,
            blob: artifact.hash.clone(),
            launches: vec![Launch {
                entry: artifact.functions[0].symbol.clone(),
                args: vec![Arg::Tensor(0), Arg::Tensor(1), Arg::Scalar { dtype, value }],
                geometry: geometry.clone(),
                zero: Vec::new(),
            }],
        };
        let (dtype, rounds) = self.scalar;
        let words = self.tensors[0].dims[0] as i64;
        let (told, value) = match self.expected {
            Some(expected) => (DType::F64, Number::Float(expected)),
            None => (dtype, Number::Int(words)),
        };
        TimedCase {
            case: Case { tensors: self.tensors.clone(), sequence: sequence(kernel, dtype, Number::Int(rounds)) },
            reference: Reference {
                sequence: sequence(reference, told, value),
                precision: DType::F64,
                program: false,
                identity: reference.identity.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Compiler, CompilerOptions};

    fn device(kind: DeviceKind, compute_capability: Option<(u32, u32)>) -> DeviceInfo {
        DeviceInfo {
            kind,
            index: 0,
            name: "a device".into(),
            driver: "13.0".into(),
            compute_capability,
            multiprocessors: 132,
            memory_bytes: 1 << 36,
            cache_bytes: 50 << 20,
            max_threads_per_block: 1024,
            max_shared_per_block: 232_448,
            clock_khz: 0,
        }
    }

    fn gpu(major: u32, minor: u32) -> DeviceInfo {
        device(DeviceKind::Cuda, Some((major, minor)))
    }

    #[test]
    fn a_device_has_the_ceilings_that_it_has_instructions_for() {
        let peaks = |device: &DeviceInfo, arch| all(device, arch).iter().map(|micro| micro.peak).collect::<Vec<_>>();
        let of_gpu = [Peak::Copy, Peak::Fp32, Peak::TensorF16, Peak::TensorF8];
        assert_eq!(peaks(&gpu(9, 0), Some("sm_90a")), of_gpu);
        assert_eq!(peaks(&gpu(8, 0), Some("sm_80")), of_gpu[..3]);
        assert_eq!(peaks(&gpu(7, 5), Some("sm_75")), of_gpu[..2]);
        assert_eq!(peaks(&device(DeviceKind::Host, None), None), of_gpu[..2]);
        assert!(all(&device(DeviceKind::Fake, None), None).is_empty());
        let how = |arch| all(&gpu(9, 0), Some(arch))[2].how.clone();
        assert!(how("sm_90a").starts_with("wgmma m64n256k16") && how("sm_90").starts_with("mma.sync m16n8k16"));
    }

    #[test]
    fn every_kernel_compiles_with_its_signature() {
        let folder = tempfile::tempdir().unwrap();
        let compiler = Compiler::new(&folder.path().join("kbench"), CompilerOptions::default());
        let compiled = |backend, device: &DeviceInfo, arch: Option<&str>| {
            let (name, text) = source(backend);
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            for micro in all(device, arch) {
                let artifacts = micro.units(&path, arch).map(|unit| compiler.compile(&unit).unwrap());
                let spills = artifacts.iter().filter_map(|artifact| artifact.resources().spill_loads).sum::<u64>();
                assert_eq!(spills, 0, "{micro:?}");
                assert!(!artifacts[0].messages.contains("serialized"), "{}", artifacts[0].messages);
            }
        };
        compiled(Backend::C, &device(DeviceKind::Host, None), None);
        if let Err(error) = compiler.cuda_compiler() {
            eprintln!("skipped for CUDA: {error}");
            return;
        }
        compiled(Backend::Cuda, &gpu(9, 0), Some("sm_90a"));
        compiled(Backend::Cuda, &gpu(8, 9), Some("sm_89"));
    }
}
