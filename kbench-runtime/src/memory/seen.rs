//! Outputs that were seen before: fetched from the device once and compared with the reference once, however many variants make
//! the same bytes. Only where the device tells digests; elsewhere fetching and comparing are what finds out.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::data::cache::{Bounded, room};
use crate::data::digest::Bytes;
use crate::device::{Device, Range};
use crate::protocol::{Failure, OutputReport, TensorSpec};
use crate::verify::compare::with_reference;
use crate::verify::reference;

/// Bytes of outputs that are kept at least.
const BYTES: usize = 1 << 30;

/// Comparisons that are kept.
const COMPARISONS: usize = 256;

/// What was seen, and what came of it.
#[derive(Debug)]
pub struct Seen {
    outputs: Bounded<Bytes>,
    compared: VecDeque<Compared>,
}

/// A comparison and all that its result depends on.
#[derive(Debug)]
struct Compared {
    spec: TensorSpec,
    output: u64,
    /// Not kept alive, and no other one can have its address while this lives.
    reference: Weak<reference::Outputs>,
    index: usize,
    bad_above: f64,
    report: OutputReport,
}

impl Default for Seen {
    fn default() -> Self {
        Self { outputs: Bounded::new(room(BYTES)), compared: VecDeque::new() }
    }
}

impl Seen {
    /// What lies in a range, whose digest may be known.
    pub fn fetch<D: Device>(
        &mut self,
        device: &mut D,
        range: &Range<'_, D::Buffer>,
        digest: Option<u64>,
    ) -> Result<Arc<Bytes>, Failure> {
        let &Range { buffer, offset, bytes } = range;
        let key = digest.map(|digest| format!("{bytes} {digest:x}"));
        if let Some(known) = key.as_ref().and_then(|key| self.outputs.get(key)) {
            return Ok(known);
        }
        let mut data = vec![0; bytes];
        device.download(buffer, offset, &mut data)?;
        let data = Arc::new(Bytes::new(data, digest));
        if let Some(key) = key {
            self.outputs.insert(key, bytes, Arc::clone(&data));
        }
        Ok(data)
    }

    /// The errors of an output against the `index`-th tensor of the reference's; nothing is said of unwritten elements. None where
    /// the reference gives no such tensor.
    pub fn errors(
        &mut self,
        spec: &TensorSpec,
        output: &Bytes,
        reference: &Arc<reference::Outputs>,
        index: usize,
        bad_above: f64,
    ) -> Option<OutputReport> {
        let (wide, data) = reference.get(&index)?;
        let Some(digest) = output.known_digest() else {
            return Some(with_reference(spec, output, *wide, data, bad_above));
        };
        let weak = Arc::downgrade(reference);
        let known = self.compared.iter().find(|known| {
            known.output == digest
                && known.index == index
                && known.bad_above.to_bits() == bad_above.to_bits()
                && known.reference.ptr_eq(&weak)
                && known.spec == *spec
        });
        if let Some(known) = known {
            return Some(known.report.clone());
        }
        let report = with_reference(spec, output, *wide, data, bad_above);
        self.compared.truncate(COMPARISONS - 1);
        let (spec, report) = (spec.clone(), report);
        self.compared.push_front(Compared {
            spec,
            output: digest,
            reference: weak,
            index,
            bad_above,
            report: report.clone(),
        });
        Some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dtype::DType;
    use crate::device::fake::FakeDevice;
    use crate::protocol::{Role, Source};

    #[test]
    fn the_same_bytes_are_fetched_and_compared_once() {
        let mut device = FakeDevice::open(0);
        let buffer = device.alloc(1 << 20).unwrap();
        device.fill(&buffer, 0, 1 << 20, 0).unwrap();
        let mut seen = Seen::default();
        let mut fetch = |seen: &mut Seen, byte: u8| {
            device.fill(&buffer, 100, 1, byte).unwrap();
            let range = Range { buffer: &buffer, offset: 64, bytes: 512 };
            let digests = device.digests(std::slice::from_ref(&range)).unwrap().unwrap();
            seen.fetch(&mut device, &range, Some(digests[0])).unwrap()
        };
        let first = fetch(&mut seen, 0);
        let other = fetch(&mut seen, 7);
        assert_eq!((first[36], other[36]), (0, 7));
        assert!(Arc::ptr_eq(&first, &fetch(&mut seen, 0)));

        let spec =
            TensorSpec { name: "o".into(), dtype: DType::U8, dims: vec![512], role: Role::Out, source: Source::None };
        let reference = |byte: u8| Arc::new(reference::Outputs::from([(3, (DType::U8, vec![byte; 512]))]));
        let (zeros, ones) = (reference(0), reference(1));
        for _ in 0..2 {
            let bad =
                |seen: &mut Seen, output: &Bytes, reference| seen.errors(&spec, output, reference, 3, 0.5).unwrap().bad;
            assert_eq!(bad(&mut seen, &first, &zeros), 0);
            assert_eq!(bad(&mut seen, &other, &zeros), 1);
            assert_eq!(bad(&mut seen, &first, &ones), 512);
            assert_eq!(seen.errors(&spec, &other, &zeros, 3, 7.5).unwrap().bad, 0);
        }
        assert_eq!(seen.compared.len(), 4);
        assert!(seen.errors(&spec, &first, &zeros, 0, 0.5).is_none());
    }
}
