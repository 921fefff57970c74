//! ncu: its path, and the command prefix of a worker under it.

use std::path::{Path, PathBuf};

use kbench_runtime::protocol::CacheMode;

use super::Compiler;
use super::error::CompileError;

/// Settings of one profiled run.
#[derive(Debug, Clone, Copy)]
pub struct Profiled<'a> {
    /// Full names of metrics.
    pub metrics: &'a [String],
    /// Symbols of the functions in the machine code, each once.
    pub symbols: &'a [&'a str],
    /// Number of launches of these functions.
    pub launches: usize,
    /// Whether caches are flushed before each of the replays that several metrics take.
    pub cache: CacheMode,
    /// Destination of the tool's output: a file, or `stderr`.
    pub log: &'a str,
}

impl Compiler {
    /// Path of ncu: `$NCU`, or in `$CUDA_HOME`, `$CUDA_PATH`, `PATH`, `/usr/local/cuda`, or beside nvcc. `remote`: the
    /// worker runs on another machine, where ncu must be on the `PATH`.
    pub fn ncu(&self, remote: bool) -> Result<PathBuf, CompileError> {
        if remote {
            return Ok(PathBuf::from("ncu"));
        }
        self.cuda_tool("ncu", "NCU").map_err(|what| CompileError::NoCompiler {
            what,
            help: "install it (it comes with the CUDA toolkit; alone it is the package nsight-compute)".to_owned(),
        })
    }
}

/// Command prefix of a worker that runs one kernel once. Clocks stay as in a timing; numbers are in base units.
pub fn command(ncu: &Path, profiled: &Profiled<'_>) -> Vec<String> {
    let cache = if profiled.cache == CacheMode::Cold { "all" } else { "none" };
    let mut words = vec![ncu.display().to_string()];
    words.extend(["--target-processes", "all", "--clock-control", "none", "--cache-control", cache].map(str::to_owned));
    words.extend(["--csv", "--page", "raw", "--print-units", "base"].map(str::to_owned));
    // By symbol: launches of the driver itself have other symbols. The worker makes each launch once.
    let name = match profiled.symbols {
        [one] => (*one).to_owned(),
        several => format!("regex:^({})$", several.join("|")),
    };
    words.extend(["--kernel-name-base", "mangled", "--kernel-name", &name].map(str::to_owned));
    words.extend(["--launch-count", &profiled.launches.to_string(), "--log-file", profiled.log].map(str::to_owned));
    words.extend(["--metrics".to_owned(), profiled.metrics.join(",")]);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ncu_is_asked_for_one_launch_of_one_kernel() {
        let metrics = ["dram__throughput.avg".to_owned(), "launch__grid_size".to_owned()];
        let (symbols, launches) = (&["_Z1kPf"][..], 1);
        let profiled = Profiled { metrics: &metrics, symbols, launches, cache: CacheMode::Cold, log: "/tmp/log" };
        insta::assert_snapshot!(
            command(Path::new("/cuda/ncu"), &profiled).join(" "),
            @"/cuda/ncu --target-processes all --clock-control none --cache-control all --csv --page raw --print-units base --kernel-name-base mangled --kernel-name _Z1kPf --launch-count 1 --log-file /tmp/log --metrics dram__throughput.avg,launch__grid_size"
        );
    }
}
