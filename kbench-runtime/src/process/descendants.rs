//! Processes that user code has started, and their end.
//!
//! A process that a kernel starts may leave its group and its session, and outlive its parent. Two things find it all the same:
//! it is a descendant of who runs the kernel as long as that process adopts orphans ([`adopt_orphans`]), and it has inherited an
//! environment with a mark ([`end_marked`]). Other systems than Linux tell neither.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

static ADOPTS: AtomicBool = AtomicBool::new(false);

/// Children that this process started itself and waits for.
static OWN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// From now on orphaned descendants become children of this process, and [`end_orphans`] ends them. For a process whose every child
/// is told to [`own`].
pub fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: takes integers.
        let adopts = unsafe { nix::libc::prctl(nix::libc::PR_SET_CHILD_SUBREAPER, 1) } == 0;
        ADOPTS.store(adopts, Ordering::Relaxed);
    }
}

/// Says that a child is no orphan.
pub(crate) fn own(child: Pid) {
    OWN.lock().expect("no panic while held").insert(child.as_raw());
}

/// Says that a child has been waited for.
pub(crate) fn disown(child: Pid) {
    OWN.lock().expect("no panic while held").remove(&child.as_raw());
}

/// Ends all orphans that this process has adopted, with what they started.
pub fn end_orphans() {
    if !ADOPTS.load(Ordering::Relaxed) {
        return;
    }
    // Those whose parent is ended come next.
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

/// Whether this process has adopted an orphan that still is.
pub(crate) fn has_orphans() -> bool {
    ADOPTS.load(Ordering::Relaxed) && !orphans().is_empty()
}

/// Children that this process did not start itself.
fn orphans() -> Vec<Pid> {
    let own = OWN.lock().expect("no panic while held");
    children(Pid::this()).into_iter().filter(|child| !own.contains(&child.as_raw())).collect()
}

/// Ends every process that `parent` has started, and theirs.
pub fn end_below(parent: Pid) {
    for child in children(parent) {
        // It must not go on to start others meanwhile.
        let _ = kill(child, Signal::SIGSTOP);
        end_below(child);
        let _ = kill(child, Signal::SIGKILL);
        // Where it is this process's own child.
        let _ = waitpid(child, Some(WaitPidFlag::WNOHANG));
    }
}

/// Children of all threads of a process.
fn children(parent: Pid) -> Vec<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let listed = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    listed.flat_map(|listed| pids(&listed)).collect()
}

/// Process ids that stand in a text.
pub(crate) fn pids(text: &str) -> Vec<Pid> {
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

/// Ends every process whose environment was `name=value` when it began, wherever it is now.
pub fn end_marked(name: &str, value: &str) {
    let mark = format!("{name}={value}");
    let this = Pid::this();
    let listed = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
    for process in processes.filter(|process| *process != this) {
        // That of other users cannot be read.
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|entry| OsStr::from_bytes(entry) == OsStr::new(&mark)) {
            let _ = kill(process, Signal::SIGKILL);
        }
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
                // What nobody waits for any more may stay a zombie.
                Ok(stat) if !stat.contains(") Z") => std::thread::sleep(Duration::from_millis(5)),
                _ => return true,
            }
        }
        false
    }

    /// A shell that starts something and says its process id.
    fn shell(script: &str, mark: &str) -> (std::process::Child, String) {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).env("KBENCH_TEST_MARK", mark).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (shell, line.trim().to_owned())
    }

    #[test]
    fn what_left_its_session_is_ended_with_its_ancestor() {
        let (mut shell, inner) = shell("setsid sh -c 'sleep 1000 & echo $!; wait' & wait", "below");
        end_below(Pid::from_raw(shell.id() as i32));
        assert!(is_gone(&inner));
        shell.kill().unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn what_has_lost_its_ancestors_is_found_by_its_mark() {
        let (mut shell, inner) = shell("(setsid sleep 1000 & echo $!) &", "alone-with-it");
        shell.wait().unwrap();
        end_marked("KBENCH_TEST_MARK", "another");
        assert!(std::fs::exists(format!("/proc/{inner}")).unwrap());
        end_marked("KBENCH_TEST_MARK", "alone-with-it");
        assert!(is_gone(&inner));
    }
}
