//! A kernel with all its memory: every tensor between two guard bands, poisoned and restored before each launch.

use crate::codec;
use crate::device::{BoundArg, Device};
use crate::protocol::{Arg, Failure, Launch, OutOfBounds, Role, TensorSpec};
use crate::tensor::Inputs;

/// Bytes of each guard band: enough for a write some rows beyond the end of most tensors. A multiple of the alignment that
/// [`Device::alloc`] promises, so that the tensors between them are aligned too.
pub const GUARD: usize = 64 << 10;

/// The first poison: NaN in every floating-point type, -1 or the maximum in every integer.
pub const NAN: u8 = 0xff;

/// The other poison: finite in every type, and different from the first in every byte.
pub const FINITE: u8 = 0x3c;

/// A kernel, its memory and its arguments.
pub struct Rig<D: Device> {
    kernel: D::Kernel,
    /// The kernel bound to its arguments.
    pub bound: D::Bound,
    tensors: Vec<TensorSpec>,
    slots: Vec<Option<D::Buffer>>,
    symbols: Vec<(String, usize)>,
    /// Bytes of each guard band: [`GUARD`], or none.
    guard: usize,
    /// What the guard bands of written tensors hold.
    poison: u8,
}

impl<D: Device> Rig<D> {
    /// Loads a kernel and allocates its memory: the tensors among its arguments, and every output.
    pub fn new(device: &mut D, tensors: &[TensorSpec], launch: &Launch, code: &[u8]) -> Result<Self, Failure> {
        Self::guarded(device, tensors, launch, code, GUARD)
    }

    /// The same without guard bands, so that a sanitizer sees where each tensor ends. Only [`Rig::give`] may follow.
    pub fn bare(device: &mut D, tensors: &[TensorSpec], launch: &Launch, code: &[u8]) -> Result<Self, Failure> {
        Self::guarded(device, tensors, launch, code, 0)
    }

    fn guarded(
        device: &mut D,
        tensors: &[TensorSpec],
        launch: &Launch,
        code: &[u8],
        guard: usize,
    ) -> Result<Self, Failure> {
        let kernel = device.load(code, &launch.entry)?;
        let mut used: Vec<bool> = tensors.iter().map(|spec| is_output(spec.role)).collect();
        for (at, arg) in launch.args.iter().enumerate() {
            let tensor = match arg {
                Arg::Tensor(tensor) | Arg::Symbol { tensor, .. } => *tensor,
                Arg::TensorMap(map) => map.tensor,
                Arg::Scalar { .. } => continue,
            };
            let Some(used) = used.get_mut(tensor) else {
                let message = format!("argument {at} is tensor {tensor}, but there are {}", tensors.len());
                return Err(Failure::Inputs { message });
            };
            *used |= !matches!(arg, Arg::Symbol { .. });
        }
        let slots = tensors
            .iter()
            .zip(used)
            .map(|(spec, used)| used.then(|| device.alloc(spec.bytes() + 2 * guard)).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let mut args = Vec::new();
        let mut symbols = Vec::new();
        for arg in &launch.args {
            let buffer = |tensor: usize| slots[tensor].clone().expect("allocated above");
            match arg {
                Arg::Tensor(tensor) => args.push(BoundArg::Pointer {
                    buffer: buffer(*tensor),
                    offset: guard,
                    bytes: tensors[*tensor].bytes(),
                }),
                Arg::TensorMap(map) => args.push(BoundArg::TensorMap {
                    buffer: buffer(map.tensor),
                    offset: guard,
                    dtype: tensors[map.tensor].dtype,
                    map: map.clone(),
                }),
                Arg::Scalar { dtype, value } => args.push(BoundArg::Scalar(codec::number(*dtype, *value))),
                Arg::Symbol { symbol, tensor } => symbols.push((symbol.clone(), *tensor)),
            }
        }
        let bound = device.bind(&kernel, &launch.geometry, &args)?;
        Ok(Self { kernel, bound, tensors: tensors.to_vec(), slots, symbols, guard, poison: NAN })
    }

    fn slots(&self) -> impl Iterator<Item = (usize, &TensorSpec, &D::Buffer)> {
        self.tensors
            .iter()
            .zip(&self.slots)
            .enumerate()
            .filter_map(|(index, (spec, slot))| Some((index, spec, slot.as_ref()?)))
    }

    /// Whether the kernel changes what it reads, so that each launch needs its inputs restored.
    pub fn is_in_place(&self) -> bool {
        self.slots().any(|(_, spec, _)| spec.role == Role::Inout)
    }

    /// Gives a bare rig the inputs of one seed, and writes nothing else.
    pub fn give(&self, device: &mut D, inputs: &Inputs) -> Result<(), Failure> {
        self.set_symbols(device, inputs)?;
        let read = |(_, spec, _): &(usize, &TensorSpec, &D::Buffer)| matches!(spec.role, Role::In | Role::Inout);
        for (index, spec, buffer) in self.slots().filter(read) {
            upload(device, buffer, self.guard, spec, inputs[index].as_deref())?;
        }
        Ok(())
    }

    fn set_symbols(&self, device: &mut D, inputs: &Inputs) -> Result<(), Failure> {
        for (symbol, tensor) in &self.symbols {
            let spec = &self.tensors[*tensor];
            let Some(data) = &inputs[*tensor] else {
                let message = format!("`{}`, for the symbol `{symbol}`, has no contents", spec.name);
                return Err(Failure::Inputs { message });
            };
            device.set_symbol(&self.kernel, symbol, data)?;
        }
        Ok(())
    }

    /// Gives the kernel the inputs of one seed, and fresh guard bands.
    pub fn begin(&mut self, device: &mut D, inputs: &Inputs) -> Result<(), Failure> {
        self.set_symbols(device, inputs)?;
        for (index, spec, buffer) in self.slots() {
            if spec.role == Role::In {
                fill_guards(device, buffer, spec.bytes(), NAN)?;
                upload(device, buffer, GUARD, spec, inputs[index].as_deref())?;
            }
        }
        self.poison(device, inputs, NAN)
    }

    /// Makes the memory as it must be before a checked launch: outputs, scratch and their guard bands hold poison, tensors
    /// that are read and written hold their inputs.
    ///
    /// The guard bands of what is only read keep NaN: reading beyond an end gives NaN, and copying it to another guard band
    /// shows in the launch with the other poison.
    pub fn poison(&mut self, device: &mut D, inputs: &Inputs, poison: u8) -> Result<(), Failure> {
        self.poison = poison;
        for (index, spec, buffer) in self.slots() {
            match spec.role {
                Role::In => {}
                Role::Out | Role::Scratch => device.fill(buffer, 0, spec.bytes() + 2 * GUARD, poison)?,
                Role::Inout => {
                    fill_guards(device, buffer, spec.bytes(), poison)?;
                    upload(device, buffer, GUARD, spec, inputs[index].as_deref())?;
                }
            }
        }
        Ok(())
    }

    /// Gives tensors that are read and written their inputs back, and touches nothing else.
    pub fn restore(&self, device: &mut D, inputs: &Inputs) -> Result<(), Failure> {
        for (index, spec, buffer) in self.slots().filter(|(_, spec, _)| spec.role == Role::Inout) {
            upload(device, buffer, GUARD, spec, inputs[index].as_deref())?;
        }
        Ok(())
    }

    /// The bytes of every output, with the tensor's index.
    pub fn outputs(&self, device: &mut D) -> Result<Vec<(usize, Vec<u8>)>, Failure> {
        let outputs = self.slots().filter(|(_, spec, _)| is_output(spec.role));
        outputs
            .map(|(index, spec, buffer)| {
                let mut data = vec![0; spec.bytes()];
                device.download(buffer, GUARD, &mut data)?;
                Ok((index, data))
            })
            .collect()
    }

    /// Adds what guard bands show to `seen`, and repairs those of the inputs.
    pub fn out_of_bounds(&self, device: &mut D, seen: &mut Vec<OutOfBounds>) -> Result<(), Failure> {
        let mut band = vec![0; GUARD];
        for (_, spec, buffer) in self.slots() {
            let want = if spec.role == Role::In { NAN } else { self.poison };
            for after in [false, true] {
                let start = if after { GUARD + spec.bytes() } else { 0 };
                device.download(buffer, start, &mut band)?;
                let changed = |byte: &u8| *byte != want;
                let bytes = band.iter().filter(|byte| changed(byte)).count() as u64;
                let nearest = if after { band.iter().position(changed) } else { band.iter().rposition(changed) };
                let Some(nearest) = nearest else { continue };
                let offset = (start + nearest) as i64 - GUARD as i64;
                device.fill(buffer, start, GUARD, want)?;
                match seen.iter_mut().find(|other| other.tensor == spec.name && (other.offset >= 0) == after) {
                    None => seen.push(OutOfBounds { tensor: spec.name.clone(), offset, bytes }),
                    Some(other) => {
                        other.bytes = other.bytes.max(bytes);
                        other.offset = if after { other.offset.min(offset) } else { other.offset.max(offset) };
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds the names of changed inputs to `seen`, and restores them.
    pub fn inputs_changed(&self, device: &mut D, inputs: &Inputs, seen: &mut Vec<String>) -> Result<(), Failure> {
        for (index, spec, buffer) in self.slots().filter(|(_, spec, _)| spec.role == Role::In) {
            let Some(want) = &inputs[index] else { continue };
            let mut data = vec![0; want.len()];
            device.download(buffer, GUARD, &mut data)?;
            if data != *want {
                device.upload(buffer, GUARD, want)?;
                if !seen.contains(&spec.name) {
                    seen.push(spec.name.clone());
                }
            }
        }
        Ok(())
    }
}

/// Whether a tensor is compared with the reference's.
pub fn is_output(role: Role) -> bool {
    matches!(role, Role::Out | Role::Inout)
}

fn fill_guards<D: Device>(device: &mut D, buffer: &D::Buffer, bytes: usize, byte: u8) -> Result<(), Failure> {
    device.fill(buffer, 0, GUARD, byte)?;
    device.fill(buffer, GUARD + bytes, GUARD, byte)
}

fn upload<D: Device>(
    device: &mut D,
    buffer: &D::Buffer,
    offset: usize,
    spec: &TensorSpec,
    data: Option<&[u8]>,
) -> Result<(), Failure> {
    match data {
        Some(data) if data.len() == spec.bytes() => device.upload(buffer, offset, data),
        Some(_) | None => Err(Failure::Inputs { message: format!("`{}` is read but has no contents", spec.name) }),
    }
}
