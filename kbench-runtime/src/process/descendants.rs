//! Processes that user code has started, and their end.
//!
//! A process that a kernel starts may leave its process group and its session, and outlive its parent. It is found in two ways
//! nevertheless: it is a descendant of the process that runs the kernel, as long as that process adopts orphans ([`adopt_orphans`]), and
//! its environment has a mark ([`end_marked`]). Both need Linux.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

static ADOPTS: AtomicBool = AtomicBool::new(false);

/// Children that this process started itself and waits for.
static OWN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Makes orphaned descendants children of this process, so that [`end_orphans`] can end them. Only for a process that registers each of its
/// own children with `own`.
pub fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the call takes integers.
        let adopts = unsafe { nix::libc::prctl(nix::libc::PR_SET_CHILD_SUBREAPER, 1) } == 0;
        ADOPTS.store(adopts, Ordering::Relaxed);
    }
}

/// Registers a child that is no orphan.
pub(crate) fn own(child: Pid) {
    OWN.lock().expect("no panic while held").insert(child.as_raw());
}

/// Forgets a child that this process has waited for.
pub(crate) fn disown(child: Pid) {
    OWN.lock().expect("no panic while held").remove(&child.as_raw());
}

/// Ends all orphans that this process has adopted, and their descendants.
pub fn end_orphans() {
    if !ADOPTS.load(Ordering::Relaxed) {
        return;
    }
    // The end of a process orphans its children, which the next pass finds.
    loop {
        let orphans = orphans();
        if orphans.is_empty() {
            return;
        }
        for orphan in orphans {
            end_below(orphan);
            let _ = kill(orphan, Signal::SIGKILL);
            let _ = waitpid(orphan, None);
        }
    }
}

/// Whether this process has adopted an orphan that has not ended.
pub(crate) fn has_orphans() -> bool {
    ADOPTS.load(Ordering::Relaxed) && !orphans().is_empty()
}

/// Children that this process did not start itself.
fn orphans() -> Vec<Pid> {
    let own = OWN.lock().expect("no panic while held");
    children(Pid::this()).into_iter().filter(|child| !own.contains(&child.as_raw())).collect()
}

/// Ends all descendants of a process.
pub fn end_below(parent: Pid) {
    for child in children(parent) {
        // A stopped process starts no others.
        let _ = kill(child, Signal::SIGSTOP);
        end_below(child);
        let _ = kill(child, Signal::SIGKILL);
        // In case it is a child of this process.
        let _ = waitpid(child, Some(WaitPidFlag::WNOHANG));
    }
}

/// The children of all threads of a process.
fn children(parent: Pid) -> Vec<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let listed = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    listed.flat_map(|listed| pids(&listed)).collect()
}

/// The process ids in a text.
pub(crate) fn pids(text: &str) -> Vec<Pid> {
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

/// Ends every process whose environment contained `name` with one of `values` when its program started.
pub fn end_marked(name: &str, values: &[&str]) {
    /// Passes over all processes: the first finds them, the next ones find those that were starting a program or another process.
    const PASSES: u32 = 20;
    let values: BTreeSet<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
    let is_marked = |environment: &[u8]| {
        environment.split(|byte| *byte == 0).any(|entry| {
            let value = entry.strip_prefix(name.as_bytes()).and_then(|entry| entry.strip_prefix(b"="));
            value.is_some_and(|value| values.contains(value))
        })
    };
    for _ in 0..PASSES {
        let mut is_done = true;
        for process in processes() {
            match environment(process) {
                Environment::Known(text) if is_marked(&text) => {
                    let _ = kill(process, Signal::SIGKILL);
                    is_done = false;
                }
                Environment::Starting => is_done = false,
                Environment::Known(_) | Environment::Unreadable => {}
            }
        }
        if is_done {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All processes except this one.
fn processes() -> impl Iterator<Item = Pid> {
    let listed = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
    processes.filter(|process| *process != Pid::this())
}

/// The environment of a process, as far as it can be read.
enum Environment {
    /// Entries that end with a zero byte.
    Known(Vec<u8>),
    /// Empty: the process is starting a program, and its environment is not there yet.
    Starting,
    /// The process has ended or belongs to another user.
    Unreadable,
}

fn environment(process: Pid) -> Environment {
    match read_at_once(&format!("/proc/{process}/environ")) {
        // Processes that have ended, and the kernel's own threads, have no program.
        Ok(text) if text.is_empty() => match std::fs::read_link(format!("/proc/{process}/exe")) {
            Ok(_) => Environment::Starting,
            Err(_) => Environment::Unreadable,
        },
        Ok(text) => Environment::Known(text),
        Err(_) => Environment::Unreadable,
    }
}

/// Reads a file of `/proc` with one call: when a process starts a program, the rest of its former environment is lost before a second call.
fn read_at_once(path: &str) -> std::io::Result<Vec<u8>> {
    let mut text = vec![0; 1 << 16];
    loop {
        let length = std::fs::File::open(path)?.read(&mut text)?;
        if length < text.len() {
            text.truncate(length);
            return Ok(text);
        }
        text.resize(2 * text.len(), 0);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    fn is_gone(process: &str) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            match std::fs::read_to_string(format!("/proc/{process}/stat")) {
                // A process without a waiting parent may remain as a zombie.
                Ok(stat) if !stat.contains(") Z") => std::thread::sleep(Duration::from_millis(5)),
                _ => return true,
            }
        }
        false
    }

    /// A shell that starts a process and prints the process id.
    fn shell(script: &str, mark: &str) -> (std::process::Child, String) {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).env("KBENCH_TEST_MARK", mark).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (shell, line.trim().to_owned())
    }

    #[test]
    fn a_process_that_left_its_session_is_ended_with_its_ancestor() {
        let (mut shell, inner) = shell("setsid sh -c 'sleep 1000 & echo $!; wait' & wait", "below");
        end_below(Pid::from_raw(shell.id() as i32));
        assert!(is_gone(&inner));
        shell.kill().unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn a_marked_process_is_ended_also_while_it_starts_one_program_after_another() {
        // The same process runs a hundred programs, one after another, then one that stays.
        let script = "n=$1; [ $n -gt 0 ] && exec sh -c \"$0\" \"$0\" $((n - 1)); exec sleep 1000";
        let start = format!("setsid sh -c '{script}' '{script}' 100 & echo $!");
        for _ in 0..10 {
            let (mut shell, inner) = shell(&start, "busy-with-exec");
            shell.wait().unwrap();
            end_marked("KBENCH_TEST_MARK", &["busy-with-exec"]);
            assert!(is_gone(&inner));
        }
    }

    #[test]
    fn a_process_without_living_ancestors_is_found_by_its_mark() {
        let (mut shell, inner) = shell("(setsid sleep 1000 & echo $!) &", "alone-with-it");
        shell.wait().unwrap();
        end_marked("KBENCH_TEST_MARK", &["another", "alone"]);
        assert!(std::fs::exists(format!("/proc/{inner}")).unwrap());
        end_marked("KBENCH_TEST_MARK", &["another", "alone-with-it"]);
        assert!(is_gone(&inner));
    }
}
