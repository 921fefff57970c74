//! Findings in memory after a launch: outputs, and writes outside of the kernel's memory.

use super::{KernelMemory, Outputs};
use crate::data::digest::Bytes;
use crate::device::{Device, GUARD, Range};
use crate::inputs::tensor::Inputs;
use crate::memory::digests::{MemoryDigests, of_band};
use crate::memory::outputs::OutputCache;
use crate::memory::poison::NAN;
use crate::protocol::{Failure, OutOfBounds, Role};

impl<D: Device> KernelMemory<D> {
    /// Fetches `bytes` bytes of an output from byte `at` on.
    pub fn fetch(&self, device: &mut D, index: usize, at: usize, bytes: usize) -> Result<Vec<u8>, Failure> {
        let mut data = vec![0; bytes];
        device.download(&self.output_buffer(index).buffer, GUARD + at, &mut data)?;
        Ok(data)
    }

    /// Fetches the `at`-th element of an output.
    pub fn element(&self, device: &mut D, index: usize, at: usize) -> Result<Vec<u8>, Failure> {
        let size = self.tensors[index].dtype.size();
        self.fetch(device, index, at * size, size)
    }

    /// Digests of all tensors and guard bands, if the device computes digests.
    pub fn digests(&self, device: &mut D) -> Result<MemoryDigests, Failure> {
        let mut ranges = Vec::new();
        for (_, spec, buffer) in self.buffers() {
            let bytes = spec.bytes();
            for (offset, bytes) in [(GUARD, bytes), (0, GUARD), (GUARD + bytes, GUARD)] {
                ranges.push(Range { buffer, offset, bytes });
            }
        }
        let Some(digests) = device.digests(&ranges)? else { return Ok(MemoryDigests::default()) };
        let by_index = self.buffers().map(|(index, ..)| index).zip(digests.as_chunks().0.iter().copied());
        Ok(MemoryDigests::new(self.buffers.len(), by_index))
    }

    /// The bytes of every output: `known` itself if they are the same.
    pub fn outputs_or(
        &self,
        device: &mut D,
        cache: &mut OutputCache,
        digests: &MemoryDigests,
        known: &Outputs,
    ) -> Result<Outputs, Failure> {
        for (index, data) in known {
            if !self.holds(device, digests, *index, data)? {
                return self.outputs(device, cache, digests);
            }
        }
        Ok(known.clone())
    }

    /// The bytes of every output.
    pub fn outputs(
        &self,
        device: &mut D,
        cache: &mut OutputCache,
        digests: &MemoryDigests,
    ) -> Result<Outputs, Failure> {
        let outputs = self.buffers().filter(|(_, spec, _)| spec.role.is_output());
        outputs
            .map(|(index, spec, buffer)| {
                let range = Range { buffer, offset: GUARD, bytes: spec.bytes() };
                Ok((index, cache.fetch(device, &range, digests.tensor(index))?))
            })
            .collect()
    }

    /// Whether a tensor holds these bytes.
    fn holds(&self, device: &mut D, digests: &MemoryDigests, index: usize, data: &Bytes) -> Result<bool, Failure> {
        match digests.tensor(index) {
            Some(digest) => Ok(digest == data.digest()),
            None => device.holds(&self.output_buffer(index).buffer, GUARD, data),
        }
    }

    /// Adds the writes that guard bands show to `found`, and repairs the guard bands.
    pub fn out_of_bounds(
        &self,
        device: &mut D,
        digests: &MemoryDigests,
        found: &mut Vec<OutOfBounds>,
    ) -> Result<(), Failure> {
        let mut band = vec![0; GUARD];
        for (index, spec, buffer) in self.buffers() {
            let want = if spec.role == Role::In { NAN } else { self.bands };
            for after in [false, true] {
                if digests.band(index, after) == Some(of_band(want)) {
                    continue;
                }
                let start = if after { GUARD + spec.bytes() } else { 0 };
                device.download(buffer, start, &mut band)?;
                let changed = |byte: &u8| *byte != want;
                let bytes = band.iter().filter(|byte| changed(byte)).count() as u64;
                let nearest = if after { band.iter().position(changed) } else { band.iter().rposition(changed) };
                let Some(nearest) = nearest else { continue };
                let offset = (start + nearest) as i64 - GUARD as i64;
                device.fill(buffer, start, GUARD, want)?;
                match found.iter_mut().find(|other| other.tensor == spec.name && (other.offset >= 0) == after) {
                    None => found.push(OutOfBounds { tensor: spec.name.clone(), offset, bytes }),
                    Some(other) => {
                        other.bytes = other.bytes.max(bytes);
                        other.offset = if after { other.offset.min(offset) } else { other.offset.max(offset) };
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds the names of changed inputs to `found`, and restores the inputs.
    pub fn inputs_changed(
        &self,
        device: &mut D,
        digests: &MemoryDigests,
        inputs: &Inputs,
        found: &mut Vec<String>,
    ) -> Result<(), Failure> {
        for (index, spec, buffer) in self.buffers().filter(|(_, spec, _)| spec.role == Role::In) {
            let Some(want) = &inputs[index] else { continue };
            if !self.holds(device, digests, index, want)? {
                device.upload(buffer, GUARD, want)?;
                if !found.contains(&spec.name) {
                    found.push(spec.name.clone());
                }
            }
        }
        Ok(())
    }
}
