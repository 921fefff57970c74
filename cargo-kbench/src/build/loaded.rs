//! Libraries that are loaded with a shared object, also those of its libraries, which no linker lists.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::invocation::Invocation;

/// The files that the dynamic loader maps with `object` in this environment, by `ldd`; `None` if they are unknown.
pub(super) fn libraries(object: &Path, directory: &Path, work: &Path, ended: &AtomicBool) -> Option<Vec<PathBuf>> {
    let mut command = Invocation::new("ldd", directory);
    command.arg(object);
    listed(&command.run(work, ended).ok()?)
}

/// The files in the output of `ldd`; `None` if it did not find one.
fn listed(said: &str) -> Option<Vec<PathBuf>> {
    let found = said.lines().filter_map(|line| line.split_once(" => "));
    // The address of the library follows its path.
    found.map(|(_, place)| Some(PathBuf::from(place.rsplit_once(" (0x")?.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let said = "\tlinux-vdso.so.1 (0x00007f)\n\tlibg.so => /p/a (b)/libg.so (0x00007e)\n\
                    \tlibc.so.6 => /lib/libc.so.6 (0x00007d)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007c)\n";
        assert_eq!(listed(said), Some(["/p/a (b)/libg.so", "/lib/libc.so.6"].map(PathBuf::from).into()));
        assert_eq!(listed("\tstatically linked\n"), Some(Vec::new()));
        assert_eq!(listed("\tlibg.so => not found\n"), None);
    }
}
