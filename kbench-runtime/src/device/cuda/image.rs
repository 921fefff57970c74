//! Checks machine code before the driver gets it. The driver takes an address and trusts the sizes in the data, so that
//! a truncated file would crash the worker.

/// The image for the driver (aligned, PTX with a final NUL), or the reason why the data is invalid.
pub(super) fn prepare(code: &[u8]) -> Result<Vec<u64>, String> {
    if code.starts_with(b"\x7fELF") {
        check_elf(code)?;
    } else if code.starts_with(&[0x50, 0xed, 0x55, 0xba]) {
        check_fatbin(code)?;
    } else if !std::str::from_utf8(code).is_ok_and(|text| text.contains(".version") && !text.contains('\0')) {
        return Err(format!("{} bytes that are neither a cubin, a fatbin nor PTX", code.len()));
    }
    // One word more than needed, which ends PTX.
    let mut words = vec![0u64; code.len() / 8 + 1];
    for (word, bytes) in words.iter_mut().zip(code.chunks(8)) {
        let mut padded = [0u8; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(padded);
    }
    Ok(words)
}

fn check_elf(code: &[u8]) -> Result<(), String> {
    const EM_CUDA: u64 = 190;
    const NO_BITS: u64 = 8;
    let cut = || format!("a cubin that is cut short at {} bytes", code.len());
    if code.get(4) != Some(&2) {
        return Err("an ELF file, but not a 64-bit one".into());
    }
    let machine = field(code, 0x12, 2).ok_or_else(cut)?;
    if machine != EM_CUDA {
        return Err(format!("an ELF file for machine {machine}, not a cubin ({EM_CUDA})"));
    }
    let tables = [(0x20, 0x36, 0x38), (0x28, 0x3a, 0x3c)];
    for (offset, size, count) in tables {
        let start = field(code, offset, 8).ok_or_else(cut)?;
        let bytes = field(code, size, 2).ok_or_else(cut)? * field(code, count, 2).ok_or_else(cut)?;
        inside(code, start, bytes).ok_or_else(cut)?;
    }
    let (start, size) = (field(code, 0x28, 8).ok_or_else(cut)?, field(code, 0x3a, 2).ok_or_else(cut)?);
    for index in 0..field(code, 0x3c, 2).ok_or_else(cut)? {
        let header = (start + index * size) as usize;
        if field(code, header + 0x04, 4).ok_or_else(cut)? == NO_BITS {
            continue;
        }
        let (from, bytes) = (field(code, header + 0x18, 8), field(code, header + 0x20, 8));
        inside(code, from.ok_or_else(cut)?, bytes.ok_or_else(cut)?).ok_or_else(cut)?;
    }
    Ok(())
}

fn check_fatbin(code: &[u8]) -> Result<(), String> {
    let header = field(code, 6, 2);
    let bytes = field(code, 8, 8);
    header
        .zip(bytes)
        .and_then(|(header, bytes)| inside(code, header, bytes))
        .ok_or_else(|| format!("a fatbin that is cut short at {} bytes", code.len()))
}

/// A little-endian field.
fn field(code: &[u8], offset: usize, bytes: usize) -> Option<u64> {
    let slice = code.get(offset..offset.checked_add(bytes)?)?;
    Some(slice.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

fn inside(code: &[u8], start: u64, bytes: u64) -> Option<()> {
    (start.checked_add(bytes)? <= code.len() as u64).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file for CUDA: one section of `bytes` bytes between the header and the section table.
    fn elf(bytes: usize) -> Vec<u8> {
        let mut file = vec![0u8; 64 + bytes + 64];
        file[..5].copy_from_slice(b"\x7fELF\x02");
        file[0x12] = 190;
        file[0x28..0x30].copy_from_slice(&(64 + bytes as u64).to_le_bytes());
        file[0x3a] = 64;
        file[0x3c] = 1;
        let section = 64 + bytes;
        file[section + 4] = 1;
        file[section + 0x18] = 64;
        file[section + 0x20..section + 0x28].copy_from_slice(&(bytes as u64).to_le_bytes());
        file
    }

    #[test]
    fn whole_files_pass() {
        assert!(prepare(&elf(40)).is_ok());
        let ptx = b".version 8.0\n.target sm_90\n";
        let words = prepare(ptx).unwrap();
        assert!(words.len() * 8 > ptx.len());
    }

    #[test]
    fn every_truncated_image_is_refused() {
        let file = elf(40);
        for length in 4..file.len() {
            assert!(prepare(&file[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn other_files_are_named() {
        assert!(prepare(b"").unwrap_err().contains("neither"));
        assert!(prepare(b"hello").unwrap_err().contains("neither"));
        let mut host = elf(8);
        host[0x12] = 62;
        assert_eq!(prepare(&host).unwrap_err(), "an ELF file for machine 62, not a cubin (190)");
        let mut section = elf(8);
        let header = section.len() - 64;
        section[header + 0x27] = 0xff;
        assert!(prepare(&section).unwrap_err().contains("cut short"));
    }
}
