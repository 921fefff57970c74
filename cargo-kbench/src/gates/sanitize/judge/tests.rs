use kbench_runtime::protocol::Stage;

use super::*;

fn watched(report: &str) -> Watched {
    Watched { failure: None, report: report.to_owned(), counts: None, status: Some(0) }
}

/// The verdict on a run whose tool has its own mark.
fn judged(tool: SanitizeTool, watched: &Watched) -> Result<Judgement, String> {
    judge(tool, "small", watched, MARK)
}

/// Reason and message of the rejection for a report.
fn told(tool: SanitizeTool, report: &str) -> Option<(Reason, String)> {
    let rejection = judged(tool, &watched(report)).unwrap().rejection?;
    let output = rejection.output.unwrap();
    assert!(report.starts_with(&output) && !output.contains("kbench_entry"), "{output}");
    Some((rejection.code, rejection.message))
}

const MEMCHECK: &str = "\
========= COMPUTE-SANITIZER
========= Invalid __global__ read of size 4 bytes
=========     at centre(const float *, float *, int, float)+0x130 in kernel.cu:12
=========     by thread (255,0,0) in block (3,0,0)
=========     Access to 0x7f1b2ba01000 is out of bounds
=========     and is 1 bytes after the nearest allocation at 0x7f1b2ba00000 of size 4096 bytes
=========
========= Program hit CUDA_ERROR_LAUNCH_FAILED (error 719) due to \"unspecified launch failure\" on CUDA API call to cuStreamSynchronize.
=========
========= ERROR SUMMARY: 3 errors
";

const RACECHECK: &str = "\
========= COMPUTE-SANITIZER
========= Error: Race reported between Write access at centre(const float *, float *, int, float)+0x3d0 in kernel.cu:14
=========     and Read access at centre(const float *, float *, int, float)+0x410 in kernel.cu:18 [896 hazards]
=========
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
";

#[test]
fn findings_of_compute_sanitizer_are_read() {
    let (code, message) = told(SanitizeTool::Memcheck, MEMCHECK).unwrap();
    assert_eq!(code, Reason::Memcheck);
    assert_eq!(
        message,
        "out-of-bounds access: Invalid __global__ read of size 4 bytes, kernel.cu:12 in centre (3 in all)"
    );
    let misaligned = MEMCHECK.replace("is out of bounds", "is misaligned");
    assert!(told(SanitizeTool::Memcheck, &misaligned).unwrap().1.starts_with("misaligned access: "));

    let (code, message) = told(SanitizeTool::Racecheck, RACECHECK).unwrap();
    assert_eq!(code, Reason::Racecheck);
    assert_eq!(message, "race: Race reported between Write access, kernel.cu:14 in centre");

    let initcheck = "\
========= COMPUTE-SANITIZER
========= Uninitialized __global__ memory read of size 4 bytes
=========     at 0x150 in /src/kernel.cu:9:centre
=========     by thread (0,0,0) in block (0,0,0)
========= ERROR SUMMARY: 1 error
";
    let (code, message) = told(SanitizeTool::Initcheck, initcheck).unwrap();
    assert_eq!(code, Reason::Initcheck);
    assert_eq!(
        message,
        "uninitialised read: Uninitialized __global__ memory read of size 4 bytes, 0x150 in /src/kernel.cu:9:centre"
    );

    let synccheck = "\
========= COMPUTE-SANITIZER
========= Barrier error detected. Divergent thread(s) in warp.
=========     at centre(const float *, float *, int, float)+0x90 in kernel.cu:8
=========     by thread (0,0,0) in block (0,0,0)
========= ERROR SUMMARY: 8 errors
";
    let (code, message) = told(SanitizeTool::Synccheck, synccheck).unwrap();
    assert_eq!(code, Reason::Synccheck);
    assert_eq!(
        message,
        "barrier error: Barrier error detected. Divergent thread(s) in warp., kernel.cu:8 in centre (8 in all)"
    );
}

#[test]
fn a_run_is_clean_only_if_the_tool_reports_so() {
    let clean = "========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n";
    assert_eq!(judged(SanitizeTool::Memcheck, &watched(clean)).unwrap(), Judgement::default());
    let clean = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n";
    assert_eq!(judged(SanitizeTool::Racecheck, &watched(clean)).unwrap(), Judgement::default());
    // The C compiler's sanitizers are silent.
    assert_eq!(judged(SanitizeTool::Address, &watched("a kernel's words\n")).unwrap(), Judgement::default());
}

#[test]
fn a_warning_does_not_reject() {
    let report =
        RACECHECK.replace("Error: Race", "Warning: Race").replace("(1 error, 0 warnings)", "(0 errors, 1 warning)");
    let judged = judged(SanitizeTool::Racecheck, &watched(&report)).unwrap();
    assert_eq!(judged.rejection, None);
    assert_eq!(
        judged.warnings,
        ["racecheck at small: race: Race reported between Write access, kernel.cu:14 in centre"]
    );
}

#[test]
fn findings_of_address_and_undefined_behaviour_sanitizers_are_read() {
    let address = "\
=================================================================
==7==ERROR: AddressSanitizer: stack-buffer-overflow on address 0x7ffd bp 0x7ffe sp 0x7ffc
READ of size 4 at 0x7ffd thread T0
    #0 0x7f6f in centre /p/kernel.c:9
    #1 0x7f70 in kbench_entry /cache/shims/1.c:8
    #2 0x7f71 in kbench_runtime::device::host::Bound::call host.rs:90
Shadow bytes around the buggy address:
  0x0c4a7fff97b0: 00 00 00 00
";
    assert_eq!(
        told(SanitizeTool::Address, address).unwrap(),
        (
            Reason::Address,
            "out-of-bounds access: stack-buffer-overflow, read of 4 bytes, /p/kernel.c:9 in centre".into()
        )
    );
    let undefined = "/p/kernel.c:9:22: runtime error: signed integer overflow: 2147483647 + 1 cannot be represented\n";
    assert_eq!(
        told(SanitizeTool::Undefined, undefined).unwrap(),
        (
            Reason::Undefined,
            "undefined behaviour: signed integer overflow: 2147483647 + 1 cannot be represented, /p/kernel.c:9:22"
                .into()
        )
    );
}

#[test]
fn errors_and_incomplete_reports_do_not_pass() {
    use SanitizeTool::{Address, Memcheck};
    // The exit code of the tool alone suffices, and so does its count.
    let found = Watched { status: Some(FOUND), ..watched("======= new words =======\n") };
    assert_eq!(judged(Memcheck, &found).unwrap().rejection.unwrap().code, Reason::Memcheck);
    let counted = watched("========= ERROR SUMMARY: 2 errors\n");
    assert_eq!(judged(Memcheck, &counted).unwrap().rejection.unwrap().code, Reason::Memcheck);
    // A clean summary that a kernel prints does not hide another.
    let forged = format!("========= ERROR SUMMARY: 0 errors\n{MEMCHECK}========= ERROR SUMMARY: 0 errors\n");
    assert_eq!(told(Memcheck, &forged).unwrap().0, Reason::Memcheck);

    // A missing report, or one about the tool's own failure, is not a verdict on the kernel.
    assert!(judged(Memcheck, &watched("")).is_err());
    let refused =
        "========= COMPUTE-SANITIZER\n========= Error: No attachable process found. compute-sanitizer timed-out.\n";
    assert_eq!(
        judged(Memcheck, &watched(refused)).unwrap_err(),
        "No attachable process found. compute-sanitizer timed-out."
    );
    let exited = Failure::Exited { code: 1, stderr: String::new() };
    let first = Watched { failure: Some(exited), ..watched("==7==ASan runtime does not come first\n") };
    assert!(judged(Address, &first).unwrap_err().contains("does not come first"));

    let failed = |failure| {
        let watched = Watched { failure: Some(failure), ..watched("========= ERROR SUMMARY: 0 errors\n") };
        judged(Memcheck, &watched).unwrap().rejection.unwrap()
    };
    let slow = failed(Failure::Hang { seconds: 120, stage: Stage::Launch });
    assert_eq!(slow.code, Reason::Undecided);
    assert!(slow.message.contains("no end within 120 s under memcheck"), "{}", slow.message);
    let refused = failed(Failure::LaunchRefused { message: "too much".into() });
    assert_eq!((refused.gate, refused.code), (GateName::Sanitize, Reason::LaunchRefused));
}

#[test]
fn each_name_of_a_fault_is_understood() {
    let of_c = |text: &str| super::of_c(text).findings.remove(0);
    for (name, kind) in [
        ("heap-use-after-free", Kind::UseAfterEnd),
        ("attempting double-free", Kind::Other),
        ("double-free", Kind::UseAfterEnd),
        ("stack-buffer-overflow", Kind::OutOfBounds),
        ("stack-buffer-underflow", Kind::OutOfBounds),
        ("SEGV", Kind::OutOfBounds),
        ("alloc-dealloc-mismatch", Kind::Other),
    ] {
        let found = of_c(&format!("==1==ERROR: AddressSanitizer: {name} on address 0x1"));
        assert_eq!(found.kind, kind, "{name}");
    }
    let of_cuda =
        |words: &str| super::of_cuda(&format!("========= {words}\n"), MARK).findings.first().map(|found| found.kind);
    for (words, kind) in [
        ("Race reported between Write access at k", Kind::Race),
        ("Potential RAW hazard detected at k", Kind::Race),
        ("Invalid __shared__ read of size 4", Kind::OutOfBounds),
        ("Potential invalid __local__ read", Kind::OutOfBounds),
        ("Uninitialized __global__ memory read", Kind::Uninitialised),
        ("Host API uninitialized memory access", Kind::Uninitialised),
        ("Barrier error detected", Kind::Barrier),
        ("Deadlock detected", Kind::Barrier),
        ("Fatal UVM CPU fault error detected.", Kind::Other),
        ("Malloc/Free error encountered", Kind::Other),
        ("Stack overflow at k", Kind::Other),
    ] {
        assert_eq!(of_cuda(words), Some(kind), "{words}");
    }
    assert_eq!(of_cuda("Program hit CUDA_ERROR_LAUNCH_FAILED"), None);
}

#[test]
fn the_place_is_the_first_frame_with_a_line() {
    let text = "==1==ERROR: AddressSanitizer: SEGV on unknown address\n\
                    #0 0x1 in memcpy (libc.so)\n\
                    not a frame in k k.c:9\n\
                    #1 0x2 in k k.c:12\n";
    assert_eq!(super::of_c(text).findings[0].place.as_deref(), Some("k.c:12 in k"));
    for text in ["==1==ASan runtime does not come first in the list", "==1==AddressSanitizer CHECK failed: a.cc:1"] {
        assert_eq!(super::of_c(text).failed.as_deref(), Some(text));
    }
    assert_eq!(silent("a line\n last words \n\n", MARK), "it ended without a report; its last line is `last words`");
    assert_eq!(silent("", MARK), "it ended without a report; its last line is ``");
}

#[test]
fn a_finding_in_the_process_of_a_c_kernel_counts_without_a_report_of_it() {
    let ended = |code| Watched {
        failure: Some(Failure::Exited { code, stderr: String::new() }),
        ..watched("a report that nobody reads\n")
    };
    let rejection = judged(SanitizeTool::Address, &ended(FOUND)).unwrap().rejection.unwrap();
    assert_eq!(
        (rejection.code, &*rejection.message),
        (Reason::Address, "the tool reported an error; its output follows")
    );
    assert!(judged(SanitizeTool::Address, &ended(1)).is_err(), "another failure is the tool's");
}

#[test]
fn frames_of_the_worker_are_left_out_of_an_excerpt() {
    let report = "\
ERROR: AddressSanitizer: heap-buffer-overflow
    #0 0x1 in own k.c:3
    #1 0x2 in kbench_entry k.c:9
    #2 0x3 in worker
0x9 is located after a region
    #0 0x4 in malloc
Shadow bytes around it
    #0 0x5 in own k.c:3
";
    let shown = "\
ERROR: AddressSanitizer: heap-buffer-overflow
    #0 0x1 in own k.c:3
0x9 is located after a region
    #0 0x4 in malloc";
    assert_eq!(excerpt(report), shown);
}

#[test]
fn the_words_of_a_kernel_are_not_those_of_the_tool() {
    const OWN: &str = "=========0123456789abcdef";
    let of = |report: &str| judge(SanitizeTool::Memcheck, "small", &watched(report), OWN);
    let clean = "========= ERROR SUMMARY: 0 errors\n";
    // The tool died, or found something.
    assert_eq!(
        of(clean).unwrap_err(),
        "it ended without a report; its last line is `========= ERROR SUMMARY: 0 errors`"
    );
    let found = MEMCHECK.replace(MARK, OWN);
    let rejection = of(&format!("{clean}{found}{clean}")).unwrap().rejection.unwrap();
    assert!(rejection.message.starts_with("out-of-bounds access: "), "{rejection}");
    assert_eq!(rejection.output.as_deref(), Some(format!("{clean}{MEMCHECK}{clean}").trim_end()));
    // A finding of the kernel's own making counts as little, and a line that it began hides nothing.
    let of_tool = clean.replace(MARK, OWN);
    assert_eq!(of(&format!("{MEMCHECK}{of_tool}")).unwrap(), Judgement::default());
    assert_eq!(of(&format!("no end of line{of_tool}")).unwrap(), Judgement::default());
    let counted = of(&format!("no end of line{OWN} ERROR SUMMARY: 2 errors\n")).unwrap();
    assert_eq!(counted.rejection.unwrap().code, Reason::Memcheck);
}
