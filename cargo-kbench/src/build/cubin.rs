//! Properties of kernels in a cubin.
//!
//! Kernels are function symbols with `STO_CUDA_ENTRY` in `st_other`. `.nv.info` and `.nv.info.<kernel>` hold
//! attributes: a byte for the form, a byte for the kind, two bytes of value, and in the form `SVAL` as many more bytes
//! as the value says. The kinds read here (as `cuobjdump -elf` names them) are `EIATTR_REGCOUNT`, `EIATTR_MAX_THREADS`,
//! `EIATTR_REQNTID`, `EIATTR_KPARAM_INFO`, `EIATTR_CTA_PER_CLUSTER`, `EIATTR_EXPLICIT_CLUSTER` and
//! `EIATTR_MAX_CLUSTER_RANK`. NVIDIA does not document the format, so an unreadable attribute is
//! `None`, and the output of `ptxas -v` is used.

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolFlags, SymbolKind};

use super::Bounds;

const STO_CUDA_ENTRY: u8 = 0x10;
const FORM_SVAL: u8 = 0x04;
const MAX_THREADS: u8 = 0x05;
const REQNTID: u8 = 0x10;
const KPARAM_INFO: u8 = 0x17;
const REGCOUNT: u8 = 0x2f;
const CTA_PER_CLUSTER: u8 = 0x3d;
const EXPLICIT_CLUSTER: u8 = 0x3e;
const MAX_CLUSTER_RANK: u8 = 0x3f;

/// One kernel of a cubin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Symbol of the kernel.
    pub(super) symbol: String,
    /// Size of the machine code in bytes.
    pub(super) code_bytes: u64,
    /// Registers of a thread.
    pub(super) registers: Option<u64>,
    /// Largest number of threads of a block (`__launch_bounds__`), or the only number (`.reqntid`).
    pub(super) max_threads: Option<u64>,
    /// The launches that the code allows.
    pub(super) bounds: Bounds,
    /// Size of each parameter in bytes, in order; `None` if its attributes are missing or unknown.
    pub(super) parameters: Option<Vec<u64>>,
}

/// The kernels of a cubin.
pub(super) fn kernels(bytes: &[u8]) -> object::Result<Vec<Kernel>> {
    let file = object::File::parse(bytes)?;
    let section = |name: &str| file.section_by_name(name).and_then(|section| section.data().ok());
    let common: Vec<_> = attributes(section(".nv.info").unwrap_or_default()).collect();
    let mut kernels = Vec::new();
    for symbol in file.symbols() {
        let SymbolFlags::Elf { st_other, .. } = symbol.flags() else { continue };
        if symbol.kind() != SymbolKind::Text || st_other.0 & STO_CUDA_ENTRY == 0 {
            continue;
        }
        let name = symbol.name()?;
        let own = section(&format!(".nv.info.{name}"));
        let registers = common.iter().find_map(|attribute| match (attribute.kind, attribute.words()) {
            (REGCOUNT, [index, count]) if index as usize == symbol.index().0 => Some(u64::from(count)),
            _ => None,
        });
        let max_threads = own.into_iter().flat_map(attributes).find_map(|attribute| {
            let bounds = matches!(attribute.kind, MAX_THREADS | REQNTID) && attribute.data.len() == 12;
            bounds.then(|| attribute.words::<3>().into_iter().map(u64::from).product())
        });
        kernels.push(Kernel {
            symbol: name.to_owned(),
            code_bytes: symbol.size(),
            registers,
            max_threads,
            bounds: own.map(bounds).unwrap_or_default(),
            parameters: own.and_then(parameters),
        });
    }
    Ok(kernels)
}

/// Architecture of the code, as 90 for `sm_90`, without the `a` or `f`, which the header lacks.
pub(super) fn architecture(bytes: &[u8]) -> object::Result<Option<u32>> {
    // CUDA 13 has version 8 of its binary interface, in which the number is one byte further.
    const SECOND: u8 = 8;
    let file = object::File::parse(bytes)?;
    let object::FileFlags::Elf { abi_version, e_flags, .. } = file.flags() else { return Ok(None) };
    Ok(Some(if abi_version >= SECOND { e_flags.0 >> 8 & 0xff } else { e_flags.0 & 0xff }))
}

fn bounds(info: &[u8]) -> Bounds {
    let find = |kind: u8, bytes: usize| {
        attributes(info).find(|attribute| attribute.kind == kind && attribute.data.len() == bytes)
    };
    // Without the second attribute, the grid of a launch counts clusters.
    let cluster = find(CTA_PER_CLUSTER, 12).filter(|_| find(EXPLICIT_CLUSTER, 0).is_some());
    Bounds {
        block: find(REQNTID, 12).map(|attribute| attribute.words()),
        cluster: cluster.map(|attribute| attribute.words()),
        max_cluster: find(MAX_CLUSTER_RANK, 4).map(|attribute| attribute.words::<1>()[0]),
    }
}

/// Sizes by ordinal; `None` unless each ordinal from 0 occurs once.
fn parameters(info: &[u8]) -> Option<Vec<u64>> {
    let mut found = Vec::new();
    for attribute in attributes(info).filter(|attribute| attribute.kind == KPARAM_INFO) {
        if attribute.data.len() != 12 {
            return None;
        }
        // Index, then ordinal and offset in halves, then flags with the size in the upper 14 bits.
        let [_, place, flags] = attribute.words();
        found.push((place & 0xffff, u64::from(flags >> 18)));
    }
    found.sort_unstable();
    let in_order = found.iter().enumerate().all(|(index, &(ordinal, _))| index == ordinal as usize);
    in_order.then(|| found.into_iter().map(|(_, size)| size).collect())
}

#[derive(Debug, Clone, Copy)]
struct Attribute<'a> {
    kind: u8,
    data: &'a [u8],
}

impl Attribute<'_> {
    /// The first `N` words; zeros for missing ones.
    fn words<const N: usize>(&self) -> [u32; N] {
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(self.data.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        words
    }
}

fn attributes(mut info: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let (&[form, kind, low, high], rest) = info.split_first_chunk::<4>()?;
        let length = if form == FORM_SVAL { usize::from(u16::from_le_bytes([low, high])) } else { 0 };
        let (data, rest) = rest.split_at_checked(length)?;
        info = rest;
        Some(Attribute { kind, data })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `.nv.info.plain` of `plain(float *, const float *, int)`, nvcc 13.0 for `sm_90a`.
    #[rustfmt::skip]
    const INFO: [u32; 27] = [
        0x0004_3704, 0x82, 0x000c_1704, 0, 0x0010_0002, 0x0011_f000, 0x000c_1704, 0, 0x0008_0001, 0x0021_f000,
        0x000c_1704, 0, 0, 0x0021_f000, 0x0000_5003, 0x00ff_1b03, 0x0001_4c02, 0x0101_5f03, 0x0008_1c04, 0x120, 0x210,
        0x0014_1903, 0x0008_0a04, 0x1c, 0x0014_0210, 0x0004_3604, 8,
    ];

    #[test]
    fn parameters_of_a_kernel() {
        let bytes: Vec<u8> = INFO.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(parameters(&bytes), Some(vec![8, 8, 4]));
        assert_eq!(parameters(&[]), Some(vec![]));
        assert_eq!(parameters(&bytes[24..]), Some(vec![8, 8]), "those that are left");
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>) {
            let _ = parameters(&bytes);
            let _ = kernels(&bytes);
        }
    }
}
