//! Warm start: what earlier searches of a kernel found, at other shapes and on other devices, is tried right after the default.
//!
//! Nothing of it is believed: a variant from an earlier elite goes through the same gates and clocks as any other. The entry that this
//! search is going to replace gives none, so that the same command run twice does the same.

use crate::config::Kernel;
use crate::record::elite::{EliteEntry, WarmVariant};
use crate::space::Variant;

/// Most variants: a search of 25 evaluations can afford to be wrong about them.
const MOST: usize = 6;

/// Variants to begin with.
#[derive(Debug, Clone, Default)]
pub struct WarmStart {
    /// What is tried, in this order.
    pub variants: Vec<Variant>,
    /// Where each is from.
    pub records: Vec<WarmVariant>,
    /// Earlier variants that this space does not have, each with the reason.
    pub dropped: Vec<String>,
}

impl WarmStart {
    /// The variants of these entries that the kernel's space has, the best of each entry before the second of any.
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
                        // As this space has it: toggles that the earlier one did not have are at their defaults.
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

/// The entries of this kernel but for those of `but`, shapes on this device: first those of this device, the most alike sizes first.
pub fn earlier<'e>(entries: &'e [EliteEntry], kernel: &Kernel, device: &str, but: &[&str]) -> Vec<&'e EliteEntry> {
    let dims = &kernel.shapes[kernel.search.shape].dims;
    // Sizes act by ratio.
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
