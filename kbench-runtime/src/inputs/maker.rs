//! The inputs of cases, made at most once for each seed and pattern while there is room, and those that come next while a device
//! works.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::data::cache::{Bounded, room};
use crate::data::fingerprint;
use crate::inputs::pattern;
use crate::inputs::tensor::{self, Blobs, GENERATION, Inputs};
use crate::protocol::{Failure, Pattern, Source, TensorSpec};

/// Bytes of inputs kept between jobs at least.
const INPUTS: usize = 2 << 30;

/// Makes and keeps them.
pub(crate) struct Maker {
    kept: Bounded<Inputs>,
    /// Those that are being made, with their key.
    next: Option<(String, JoinHandle<Result<Inputs, Failure>>)>,
}

impl Default for Maker {
    fn default() -> Self {
        Self { kept: Bounded::new(room(INPUTS)), next: None }
    }
}

/// Names inputs by all that they depend on.
fn key(tensors: &[TensorSpec], seed: u64, pattern: Option<Pattern>) -> String {
    // What has no contents has no say: scratch may differ between variants whose inputs are the same.
    let made: Vec<Option<&TensorSpec>> =
        tensors.iter().map(|spec| (spec.source != Source::None).then_some(spec)).collect();
    fingerprint::of("inputs", &(GENERATION, pattern::GENERATION, made, seed, pattern))
}

impl Maker {
    /// The inputs of a seed, in a pattern where there is one.
    pub(crate) fn get(
        &mut self,
        tensors: &[TensorSpec],
        seed: u64,
        pattern: Option<Pattern>,
        blobs: &Blobs,
    ) -> Result<Arc<Inputs>, Failure> {
        let key = key(tensors, seed, pattern);
        if let Some(inputs) = self.kept.get(&key) {
            return Ok(inputs);
        }
        let begun = self.next.take_if(|(of, _)| *of == key).and_then(|(_, making)| making.join().ok());
        let inputs = begun.unwrap_or_else(|| tensor::generate_pattern(tensors, seed, pattern, blobs))?;
        let inputs = Arc::new(inputs);
        self.kept.insert(key, tensor::bytes(&inputs), Arc::clone(&inputs));
        Ok(inputs)
    }

    /// Begins to make inputs that are wanted next.
    pub(crate) fn begin(&mut self, tensors: &[TensorSpec], seed: u64, pattern: Option<Pattern>, blobs: &Blobs) {
        let key = key(tensors, seed, pattern);
        if self.kept.has(&key) || self.next.is_some() {
            return;
        }
        let (tensors, blobs) = (tensors.to_vec(), blobs.clone());
        let making = thread::Builder::new().spawn(move || tensor::generate_pattern(&tensors, seed, pattern, &blobs));
        // Without a thread they are made when they are asked for.
        self.next = making.ok().map(|making| (key, making));
    }

    /// Waits for what was begun: nothing is made while something is timed.
    pub(crate) fn settle(&mut self) {
        if let Some((_, making)) = self.next.take() {
            let _ = making.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dtype::DType;
    use crate::protocol::Role;

    #[test]
    fn what_was_begun_is_what_is_made() {
        let source = Source::Normal { mean: 0.0, std: 1.0 };
        let spec = TensorSpec { name: "x".into(), dtype: DType::F32, dims: vec![1000], role: Role::In, source };
        let (tensors, blobs) = ([spec], Blobs::new());
        let mut made = Maker::default();
        let mut begun = Maker::default();
        for (seed, pattern) in [(0, None), (1, None), (0, Some(Pattern::Ascending))] {
            begun.begin(&tensors, seed, pattern, &blobs);
            assert!(begun.next.is_some());
            let (one, other) = (
                begun.get(&tensors, seed, pattern, &blobs).unwrap(),
                made.get(&tensors, seed, pattern, &blobs).unwrap(),
            );
            assert_eq!(one, other);
            assert!(begun.next.is_none() && Arc::ptr_eq(&one, &begun.get(&tensors, seed, pattern, &blobs).unwrap()));
        }
        // Another is asked for than was begun.
        begun.begin(&tensors, 2, None, &blobs);
        assert_eq!(begun.get(&tensors, 3, None, &blobs).unwrap(), made.get(&tensors, 3, None, &blobs).unwrap());
        begun.settle();
        assert!(begun.next.is_none());
    }
}
