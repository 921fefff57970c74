//! Warm start: variants of earlier searches of a kernel, at other shapes and on other devices, are tried right after
//! the default.
//!
//! A variant of an earlier elite passes the same gates and measurements as any other. The entry that this search will
//! replace is not used, so that two runs of the same command do the same.

use crate::config::Kernel;
use crate::record::elite::{EliteEntry, WarmVariant};
use crate::space::Variant;

/// Largest number of variants: a small share of a search of 25 evaluations.
const MOST: usize = 6;

/// The variants of a warm start.
#[derive(Debug, Clone, Default)]
pub struct WarmStart {
    /// Variants in the order of evaluation.
    pub variants: Vec<Variant>,
    /// Origin of each variant.
    pub records: Vec<WarmVariant>,
    /// Earlier variants that the space lacks, each with the reason.
    pub dropped: Vec<String>,
}

impl WarmStart {
    /// The variants of these entries in the kernel's space, the best of each entry before the second of any.
    pub fn new<'e>(kernel: &Kernel, entries: impl IntoIterator<Item = &'e EliteEntry>) -> Self {
        let mut all: Vec<(usize, &EliteEntry)> =
            entries.into_iter().flat_map(|entry| (0..entry.elite.len()).map(move |place| (place, entry))).collect();
        all.sort_by_key(|&(place, _)| place);
        let mut start = Self::default();
        for (place, entry) in all {
            if start.variants.len() == MOST {
                break;
            }
            let toggles = &entry.elite[place].toggles;
            let (device, shape) = (&entry.device.name, &entry.shape);
            match kernel.space.variant(toggles) {
                Ok(variant) if variant == kernel.space.default || start.variants.contains(&variant) => {}
                Ok(variant) => {
                    start.records.push(WarmVariant {
                        // The variant in this space: toggles that the earlier space lacked have their default values.
                        toggles: kernel.space.settings(&variant),
                        device: device.clone(),
                        shape: shape.clone(),
                        rank: place + 1,
                    });
                    start.variants.push(variant);
                }
                Err(error) => {
                    start.dropped.push(format!("{toggles} (rank {} at {shape} on {device}): {error}", place + 1));
                }
            }
        }
        start
    }
}

/// The entries of this kernel, except entries of the shapes `but` on this device: first those of this device, in order
/// of similar sizes.
pub fn earlier<'e>(entries: &'e [EliteEntry], kernel: &Kernel, device: &str, but: &[&str]) -> Vec<&'e EliteEntry> {
    let dims = &kernel.shapes[kernel.search.shape].dims;
    // Effects of sizes depend on ratios.
    let apart = |entry: &EliteEntry| -> f64 {
        let log = |size: i64| (size.max(1) as f64).ln();
        dims.iter().filter_map(|(name, size)| Some((log(*entry.dims.get(name)?) - log(*size)).abs())).sum()
    };
    let mut earlier: Vec<&EliteEntry> = entries
        .iter()
        .filter(|entry| (&entry.package, &entry.kernel) == (&kernel.package, &kernel.name))
        .filter(|entry| entry.device.name != device || !but.contains(&entry.shape.as_str()))
        .collect();
    earlier.sort_by(|a, b| {
        let elsewhere = |entry: &EliteEntry| entry.device.name != device;
        elsewhere(a).cmp(&elsewhere(b)).then_with(|| apart(a).total_cmp(&apart(b)))
    });
    earlier
}
