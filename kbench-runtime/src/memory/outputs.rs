//! Outputs that were fetched from the device once, for any number of variants with the same bytes. Only on devices that
//! compute digests: otherwise the bytes must be fetched to be compared.

use std::sync::Arc;

use crate::data::digest::Bytes;
use crate::data::lru::{LruCache, capacity};
use crate::data::zeroed::zeroed;
use crate::device::{Device, Range};
use crate::protocol::Failure;

/// Smallest size in bytes of the kept outputs.
const BYTES: usize = 1 << 30;

/// Outputs by size and digest.
#[derive(Debug)]
pub struct OutputCache(LruCache<Bytes>);

impl Default for OutputCache {
    fn default() -> Self {
        Self(LruCache::new(capacity(BYTES)))
    }
}

impl OutputCache {
    /// The bytes of a range, whose digest may be known.
    pub fn fetch<D: Device>(
        &mut self,
        device: &mut D,
        range: &Range<'_, D::Buffer>,
        digest: Option<u64>,
    ) -> Result<Arc<Bytes>, Failure> {
        let &Range { buffer, offset, bytes } = range;
        let key = digest.map(|digest| format!("{bytes} {digest:x}"));
        if let Some(known) = key.as_ref().and_then(|key| self.0.get(key)) {
            return Ok(known);
        }
        let mut data = zeroed(bytes);
        device.download(buffer, offset, &mut data)?;
        let data = Arc::new(Bytes::new(data, digest));
        if let Some(key) = key {
            self.0.insert(key, bytes, Arc::clone(&data));
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::fake::FakeDevice;

    #[test]
    fn the_same_bytes_are_fetched_once() {
        let mut device = FakeDevice::open(0);
        let buffer = device.alloc(1 << 20).unwrap();
        device.fill(&buffer, 0, 1 << 20, 0).unwrap();
        let mut cache = OutputCache::default();
        let mut fetch = |byte: u8| {
            device.fill(&buffer, 100, 1, byte).unwrap();
            let range = Range { buffer: &buffer, offset: 64, bytes: 512 };
            let digests = device.digests(std::slice::from_ref(&range)).unwrap().unwrap();
            cache.fetch(&mut device, &range, Some(digests[0])).unwrap()
        };
        let (first, other) = (fetch(0), fetch(7));
        assert_eq!((first[36], other[36]), (0, 7));
        assert!(Arc::ptr_eq(&first, &fetch(0)));
        assert!(Arc::ptr_eq(&other, &fetch(7)));
    }
}
