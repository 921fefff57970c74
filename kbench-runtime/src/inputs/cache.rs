//! The cache of generated inputs, and inputs that are generated in the background while a device works.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::pattern;
use super::tensor::{self, Blobs, GENERATION, Inputs};
use crate::data::fingerprint;
use crate::data::lru::{LruCache, capacity};
use crate::protocol::{Failure, Pattern, Source, TensorSpec};

/// Smallest size in bytes of the inputs that are kept between jobs.
pub const KEPT_INPUTS: usize = 2 << 30;

/// Generates inputs and keeps them.
pub struct InputCache {
    kept: LruCache<Inputs>,
    /// Inputs that are being generated, with their key.
    next: Option<(String, JoinHandle<Result<Inputs, Failure>>)>,
}

impl Default for InputCache {
    fn default() -> Self {
        Self { kept: LruCache::new(capacity(KEPT_INPUTS)), next: None }
    }
}

/// The key of inputs: a fingerprint of everything that they depend on.
fn key(tensors: &[TensorSpec], seed: u64, pattern: Option<Pattern>) -> String {
    // Tensors without contents do not count: scratch may differ between variants with the same inputs.
    let made: Vec<Option<&TensorSpec>> =
        tensors.iter().map(|spec| (spec.source != Source::None).then_some(spec)).collect();
    fingerprint::of("inputs", &(GENERATION, pattern::GENERATION, made, seed, pattern))
}

impl InputCache {
    /// The inputs of a seed, in a pattern if there is one.
    pub fn get(
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
        let prefetched = self.next.take_if(|(of, _)| *of == key).and_then(|(_, generating)| generating.join().ok());
        let inputs = prefetched.unwrap_or_else(|| tensor::generate_pattern(tensors, seed, pattern, blobs))?;
        let inputs = Arc::new(inputs);
        self.kept.insert(key, tensor::bytes(&inputs), Arc::clone(&inputs));
        Ok(inputs)
    }

    /// Starts to generate inputs that are needed next.
    pub fn prefetch(&mut self, tensors: &[TensorSpec], seed: u64, pattern: Option<Pattern>, blobs: &Blobs) {
        let key = key(tensors, seed, pattern);
        if self.kept.has(&key) || self.next.is_some() {
            return;
        }
        let (tensors, blobs) = (tensors.to_vec(), blobs.clone());
        let generate = move || tensor::generate_pattern(&tensors, seed, pattern, &blobs);
        // If no thread can be started, the inputs are generated on demand.
        self.next = thread::Builder::new().spawn(generate).ok().map(|generating| (key, generating));
    }

    /// Waits for inputs that are being generated: nothing may run beside a measurement.
    pub fn finish_prefetch(&mut self) {
        if let Some((_, generating)) = self.next.take() {
            let _ = generating.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dtype::DType;
    use crate::protocol::Role;

    #[test]
    fn prefetched_inputs_are_the_same_as_those_generated_on_demand() {
        let source = Source::Normal { mean: 0.0, std: 1.0 };
        let spec = TensorSpec { name: "x".into(), dtype: DType::F32, dims: vec![1000], role: Role::In, source };
        let (tensors, blobs) = ([spec], Blobs::new());
        let mut made = InputCache::default();
        let mut begun = InputCache::default();
        for (seed, pattern) in [(0, None), (1, None), (0, Some(Pattern::Ascending))] {
            begun.prefetch(&tensors, seed, pattern, &blobs);
            assert!(begun.next.is_some());
            let (one, other) = (
                begun.get(&tensors, seed, pattern, &blobs).unwrap(),
                made.get(&tensors, seed, pattern, &blobs).unwrap(),
            );
            assert_eq!(one, other);
            assert!(begun.next.is_none() && Arc::ptr_eq(&one, &begun.get(&tensors, seed, pattern, &blobs).unwrap()));
        }
        // Other inputs than those in progress are needed.
        begun.prefetch(&tensors, 2, None, &blobs);
        assert_eq!(begun.get(&tensors, 3, None, &blobs).unwrap(), made.get(&tensors, 3, None, &blobs).unwrap());
        begun.finish_prefetch();
        assert!(begun.next.is_none());
    }
}
