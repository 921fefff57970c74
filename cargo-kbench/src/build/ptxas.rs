//! Parser for the output of `ptxas -v`.
//!
//! One group of lines for each entry function, in any order, on stderr:
//!
//! ```text
//! ptxas info    : Compiling entry function '_Z1kPf' for 'sm_90a'
//! ptxas info    : Function properties for _Z1kPf
//!     512 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
//! ptxas info    : Used 32 registers, used 1 barriers, 512 bytes cumulative stack size, 4096 bytes smem, 360 bytes cmem[0]
//! ptxas info    : Function properties for _Z6calledPf
//!     0 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads
//! ```
//!
//! The second "Function properties" is that of a function which the entry calls and which was not inlined: its spills
//! count for the entry.

/// A parsed output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Entry functions in the order of compilation.
    pub(super) entries: Vec<Entry>,
    /// Entry functions that were refused for their static shared memory.
    pub(super) too_much_shared: Vec<TooMuchShared>,
    /// Warnings and advice, of ptxas and of every other pass.
    pub(super) messages: Vec<String>,
}

/// One entry function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Symbol of the function.
    pub(super) symbol: String,
    /// Registers of a thread.
    pub(super) registers: Option<u64>,
    /// Named barriers.
    pub(super) barriers: Option<u64>,
    /// Static shared memory in bytes, without the system's part.
    pub(super) shared: Option<u64>,
    /// Stack of a thread in bytes, with all called functions as far as ptxas knows them.
    pub(super) stack: Option<u64>,
    /// Spill stores in bytes, of the function and of those that it calls.
    pub(super) spill_stores: Option<u64>,
    /// Spill loads in bytes, of the function and of those that it calls.
    pub(super) spill_loads: Option<u64>,
}

/// `Entry function 'k' uses too much shared data (0x24000 bytes, 0xc000 max)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TooMuchShared {
    /// Symbol of the entry function.
    pub(super) symbol: String,
    /// Used bytes.
    pub(super) bytes: u64,
    /// Largest number of bytes.
    pub(super) max: u64,
}

impl Report {
    /// Lines about one entry function.
    pub(super) fn entry(&self, symbol: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.symbol == symbol)
    }

    /// Parses an output. Unknown lines are kept as [`Report::messages`].
    pub(super) fn parse(output: &str) -> Self {
        let mut report = Self::default();
        for line in output.lines() {
            let Some(text) = line.strip_prefix("ptxas info").and_then(|rest| rest.trim_start().strip_prefix(':'))
            else {
                if !report.properties(line) {
                    report.other(line);
                }
                continue;
            };
            let text = text.trim_start();
            if let Some(rest) = text.strip_prefix("Compiling entry function '") {
                let symbol = rest.split('\'').next().unwrap_or(rest).to_owned();
                report.entries.push(Entry { symbol, ..Entry::default() });
            } else if text.starts_with("Used ") {
                report.usage(text);
            } else if text.starts_with("(C") {
                // Advice, such as `(C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized …`.
                report.messages.push(line.to_owned());
            }
            // The other lines (`Function properties for`, `0 bytes gmem`, `Compile time = …`) are not needed.
        }
        report
    }

    /// `    512 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads`
    fn properties(&mut self, line: &str) -> bool {
        if !line.contains(" bytes stack frame") {
            return false;
        }
        let Some(entry) = self.entries.last_mut() else { return true };
        for (number, what) in line.split(',').filter_map(quantity) {
            match what {
                "bytes stack frame" => entry.stack = entry.stack.max(Some(number)),
                "bytes spill stores" => add(&mut entry.spill_stores, number),
                "bytes spill loads" => add(&mut entry.spill_loads, number),
                _ => {}
            }
        }
        true
    }

    /// `Used 32 registers, used 1 barriers, 512 bytes cumulative stack size, 4096 bytes smem, 360 bytes cmem[0]`
    fn usage(&mut self, text: &str) {
        let Some(entry) = self.entries.last_mut() else { return };
        // A value of 0 is not printed.
        entry.shared = Some(entry.shared.unwrap_or(0));
        entry.barriers = Some(entry.barriers.unwrap_or(0));
        for part in text.split(',') {
            let part = part.trim();
            let Some((number, what)) =
                quantity(part.strip_prefix("Used ").or(part.strip_prefix("used ")).unwrap_or(part))
            else {
                continue;
            };
            match what {
                "registers" => entry.registers = Some(number),
                "barriers" => entry.barriers = Some(number),
                "bytes smem" => entry.shared = Some(number),
                "bytes cumulative stack size" => entry.stack = entry.stack.max(Some(number)),
                _ => {}
            }
        }
    }

    fn other(&mut self, line: &str) {
        if let Some(refused) = too_much_shared(line) {
            self.too_much_shared.push(refused);
        }
        if !line.trim().is_empty() {
            self.messages.push(line.to_owned());
        }
    }
}

fn add(sum: &mut Option<u64>, number: u64) {
    *sum = Some(sum.unwrap_or(0).saturating_add(number));
}

/// `512 bytes stack frame` as 512 and `bytes stack frame`; `4096+16 bytes smem`, as older versions write it, as the sum.
fn quantity(part: &str) -> Option<(u64, &str)> {
    let (number, what) = part.trim().split_once(' ')?;
    let number = number.split('+').try_fold(0u64, |sum, term| sum.checked_add(term.parse().ok()?))?;
    Some((number, what.trim()))
}

/// `ptxas error   : Entry function 'big' uses too much shared data (0x24000 bytes, 0xc000 max)`
fn too_much_shared(line: &str) -> Option<TooMuchShared> {
    let (_, rest) = line.split_once("Entry function '")?;
    let (symbol, rest) = rest.split_once("' uses too much shared data (")?;
    let (bytes, rest) = rest.split_once(" bytes, ")?;
    let (max, _) = rest.split_once(" max)")?;
    Some(TooMuchShared { symbol: symbol.to_owned(), bytes: number(bytes)?, max: number(max)? })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // nvcc 13.0, sm_90a, as printed.
    const SEVERAL: &str = "\
ptxas info    : 4 bytes gmem
ptxas info    : Compiling entry function '_ZN2ns4sdpaILi128EEEvPf' for 'sm_90a'
ptxas info    : Function properties for _ZN2ns4sdpaILi128EEEvPf
    512 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers, 512 bytes cumulative stack size
ptxas info    : Compile time = 37.697 ms
ptxas info    : Compiling entry function 'spill' for 'sm_90a'
ptxas info    : Function properties for spill
    504 bytes stack frame, 604 bytes spill stores, 608 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 504 bytes cumulative stack size
ptxas info    : Compile time = 94.402 ms
ptxas info    : Compiling entry function 'plain' for 'sm_90a'
ptxas info    : Function properties for plain
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 4096 bytes smem
ptxas info    : Compile time = 7.592 ms
";

    #[test]
    fn several_kernels_in_one_file() {
        let report = Report::parse(SEVERAL);
        assert_eq!(report.entries.len(), 3);
        let spill = report.entry("spill").unwrap();
        assert_eq!((spill.spill_stores, spill.spill_loads, spill.stack), (Some(604), Some(608), Some(504)));
        assert_eq!((spill.registers, spill.barriers, spill.shared), (Some(32), Some(1), Some(0)));
        let plain = report.entry("plain").unwrap();
        assert_eq!(
            (plain.registers, plain.barriers, plain.shared, plain.stack),
            (Some(10), Some(1), Some(4096), Some(0))
        );
        assert_eq!(report.entry("_ZN2ns4sdpaILi128EEEvPf").unwrap().stack, Some(512));
        assert!(report.entry("sdpa").is_none());
        assert!(report.messages.is_empty(), "{:?}", report.messages);
    }

    #[test]
    fn spills_of_a_called_function_count() {
        let report = Report::parse(
            "\
ptxas info    : Compiling entry function 'k' for 'sm_75'
ptxas info    : Function properties for k
    128 bytes stack frame, 0 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 64 registers, used 0 barriers, 160 bytes cumulative stack size, 364 bytes cmem[0], 8 bytes cmem[2]
ptxas info    : Compile time = 11.533 ms
ptxas info    : Function properties for _Z1fPfi
    32 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
",
        );
        let k = report.entry("k").unwrap();
        assert_eq!((k.registers, k.stack, k.spill_stores, k.spill_loads), (Some(64), Some(160), Some(8), Some(16)));
    }

    #[test]
    fn output_of_older_ptxas_is_read() {
        let report = Report::parse(
            "\
ptxas info    : Compiling entry function 'k' for 'sm_70'
ptxas info    : Used 10 registers, 4096+16 bytes smem, 360 bytes cmem[0]
",
        );
        let k = report.entry("k").unwrap();
        assert_eq!((k.registers, k.shared, k.barriers, k.spill_stores), (Some(10), Some(4112), Some(0), None));
    }

    #[test]
    fn too_much_shared_memory() {
        let report = Report::parse(
            "ptxas error   : Entry function 'big' uses too much shared data (0x24000 bytes, 0xc000 max)\n",
        );
        let expected = TooMuchShared { symbol: "big".into(), bytes: 0x24000, max: 0xc000 };
        assert_eq!(report.too_much_shared, [expected]);
    }

    #[test]
    fn warnings_and_advice_are_kept() {
        let report = Report::parse(
            "\
a.cu(3): warning #177-D: variable \"x\" was declared but never referenced

ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to x in function 'k'
ptxas warning : setmaxnreg ignored to maintain minimum register requirement
",
        );
        assert_eq!(report.messages.len(), 3);
        assert!(report.messages[1].contains("C7510"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            Report::parse(&text);
        }

        #[test]
        fn never_panics_on_text_like_that_of_ptxas(
            lines in prop::collection::vec(
                "(ptxas (info|error|warning) *: )?(Compiling entry function '|Used |Function properties for |Entry function '|    )?[k0-9x+' ]{0,24}(bytes stack frame|registers|bytes smem|' uses too much shared data \\(0x[0-9a-f]{0,20} bytes, 0x[0-9a-f]{0,3} max\\))?,?( [0-9]{0,25} bytes spill stores)?",
                0..12,
            )
        ) {
            Report::parse(&lines.join("\n"));
        }

        #[test]
        fn any_numbers_of_ptxas_are_read_back(registers in 0u64..256, shared: u64, stores: u32, loads: u32) {
            let report = Report::parse(&format!(
                "ptxas info    : Compiling entry function 'k' for 'sm_80'\nptxas info    : Function properties for k\n    \
                 0 bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads\nptxas info    : Used \
                 {registers} registers, used 2 barriers, {shared} bytes smem, 1 bytes cmem[0]\n"
            ));
            let k = report.entry("k").unwrap();
            prop_assert_eq!(k.registers, Some(registers));
            prop_assert_eq!(k.shared, Some(shared));
            prop_assert_eq!(k.spill_stores, Some(u64::from(stores)));
            prop_assert_eq!(k.spill_loads, Some(u64::from(loads)));
        }
    }
}
