use std::sync::atomic::AtomicUsize;

use super::*;
use crate::build::{Artifact, Compiler, CompilerOptions};
use crate::config::{LoadOptions, load};
use crate::evaluate::try_build;
use crate::harness::{self, Builder, Built};

fn variants(n: u16) -> Vec<Variant> {
    (0..n).map(|index| Variant(vec![index])).collect()
}

fn outcome(variant: &Variant) -> BuildOutcome {
    BuildOutcome { result: Ok(Built { builds: Vec::new() }), warnings: vec![format!("{:?}", variant.0)] }
}

#[test]
fn a_requested_variant_is_built_once_for_all_requests() {
    for meanwhile in [Meanwhile::Compile, Meanwhile::Rest] {
        let builds = AtomicUsize::new(0);
        let build = |variant: &Variant| {
            builds.fetch_add(1, Ordering::Relaxed);
            Ok(outcome(variant))
        };
        let (taken, times) = run(&build, meanwhile, Duration::ZERO, &AtomicBool::new(false), |pipeline| {
            let variants = variants(20);
            pipeline.want(&[&variants[..], &variants].concat());
            let take = |variant: &Variant| pipeline.take(variant, None, |_, _| ()).unwrap().unwrap().warnings;
            variants.iter().rev().map(take).collect::<Vec<_>>()
        })
        .unwrap();
        let expected: Vec<_> = variants(20).iter().rev().map(|variant| outcome(variant).warnings).collect();
        assert_eq!((taken, builds.into_inner()), (expected, 20));
        assert!(times.busy_while_waited <= times.waited * times.threads as u32, "{times:?}");
    }
}

#[test]
fn the_first_wanted_variant_that_is_built_is_taken_first() {
    let build = |variant: &Variant| Ok(outcome(variant));
    run(&build, Meanwhile::Compile, Duration::ZERO, &AtomicBool::new(false), |pipeline| {
        let variants = variants(6);
        for variant in variants.iter().rev() {
            pipeline.want(std::slice::from_ref(variant));
        }
        while pipeline.lock().built.len() < variants.len() {
            thread::yield_now();
        }
        let take = || pipeline.take_first().map(|(variant, _)| variant.0[0]);
        assert_eq!([take(), take(), take(), take()], [Some(5), Some(4), Some(3), Some(2)]);
        pipeline.take(&variants[1], None, |_, _| ()).unwrap().unwrap();
        assert!(!pipeline.is_done());
        assert_eq!([take(), take()], [Some(0), None], "one was taken by its name");
        assert!(pipeline.is_done());
    })
    .unwrap();
}

#[test]
fn first_variants_of_a_search_are_compiled_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let table = r#"
        backend = "fake"
        source = "model.toml"
        entry = "model"
        args = ["y"]
        shapes.only = { N = 8 }
        toggles.macro = { A = [0, 1, 2, 3, 4] }
        toggles.micro = { B = [0, 1] }
        search.strategy = "evo"
        tensors = { y = { dtype = "f32", dims = ["N"], role = "out" } }
        reference = { backend = "fake", source = "model.toml", entry = "model" }"#;
    write("Cargo.toml", &format!("[package]\nname = \"p\"\n[package.metadata.kbench.kernels.k]{table}"));
    write("model.toml", "time_ns = \"1000 + A + B\"");
    let options = LoadOptions {
        directory: Some(folder.path().to_owned()),
        cargo: Some("no-cargo-here".into()),
        target_dir: Some("target".into()),
        ..LoadOptions::default()
    };
    let (project, _) = load(&options).unwrap();
    let (package, kernel) = (&project.packages[0], &project.packages[0].kernels[0]);
    let compiler = Compiler::new(folder.path(), CompilerOptions::default());
    let builder = Builder::new(package, kernel, &compiler);
    let ahead = Ahead::default();
    let compile = |cores| thread::scope(|scope| ahead.compile_on(scope, &builder, cores));
    assert!(!compile(0), "all cores are needed for the default, the reference and the device");
    let queue = ahead.first_builds(kernel, 3);
    assert_eq!((queue.wanted(), queue.building()), (4, 0), "the default has a thread of its own");
    assert!(compile(6));
    let is_compiled = |variant: &[u16]| {
        try_build(&builder, &(&Variant(variant.to_vec())).into()).unwrap().result.unwrap().builds[0].artifact.cached
    };
    let first_layer = [[0, 0], [1, 0], [2, 0], [3, 0], [4, 0]].map(|variant| is_compiled(&variant));
    assert_eq!(first_layer, [true; 5]);
    // The other two cores compile variants of the second layer, also more of them if builds take long.
    let second_layer = [[0, 1], [1, 1], [2, 1], [3, 1], [4, 1]].map(|variant| is_compiled(&variant));
    assert!(second_layer.iter().filter(|is_compiled| **is_compiled).count() >= 2, "{second_layer:?}");
}

#[test]
fn nothing_is_compiled_ahead_of_a_search_that_has_begun() {
    let queue = Mutex::new(Queue::default());
    for variant in variants(4) {
        queue.lock().unwrap().want(variant);
    }
    let (ahead, folder) = (Ahead::default(), tempfile::tempdir().unwrap());
    ahead.begin();
    let project = crate::config::fixture::project("");
    let (package, kernel) = (&project.packages[0], &project.packages[0].kernels[0]);
    let compiler = Compiler::new(folder.path(), CompilerOptions::default());
    ahead.serve(&queue, &Builder::new(package, kernel, &compiler), 2);
    assert_eq!(queue.into_inner().unwrap().begun, 0);
}

#[test]
fn nothing_compiles_beside_a_measurement_on_the_same_cores() {
    let active = AtomicUsize::new(0);
    let build = |variant: &Variant| {
        active.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(1));
        active.fetch_sub(1, Ordering::SeqCst);
        Ok(outcome(variant))
    };
    run(&build, Meanwhile::Rest, Duration::ZERO, &AtomicBool::new(false), |pipeline| {
        for round in variants(10).chunks(5) {
            pipeline.want(round);
            pipeline.speculate(variants(30));
            for variant in round {
                assert_eq!(active.load(Ordering::SeqCst), 0);
                pipeline.take(variant, None, |_, _| ()).unwrap().unwrap();
                for _ in 0..3 {
                    thread::sleep(Duration::from_millis(1));
                    assert_eq!(active.load(Ordering::SeqCst), 0, "measuring {variant:?}");
                }
            }
        }
    })
    .unwrap();
}

#[test]
fn likely_variants_are_built_while_none_is_requested() {
    let (built, changed) = (Mutex::new(Vec::new()), Condvar::new());
    let slow = Variant(vec![9]);
    let build = |variant: &Variant| {
        if *variant == slow {
            thread::sleep(Duration::from_secs_f64(1.1 * MATTERS));
        }
        built.lock().unwrap().push(variant.clone());
        changed.notify_all();
        Ok(outcome(variant))
    };
    run(&build, Meanwhile::Compile, Duration::ZERO, &AtomicBool::new(false), |pipeline| {
        let take = |variant: &Variant| {
            pipeline.want(std::slice::from_ref(variant));
            pipeline.take(variant, None, |_, _| ()).unwrap().unwrap();
        };
        take(&variants(1)[0]);
        pipeline.speculate(variants(4));
        assert!(!pipeline.lock().queue.compiles, "as long as nobody has to wait");
        take(&slow);
        // The test ends only if the variants are built without being wanted.
        drop(changed.wait_while(built.lock().unwrap(), |built| built.len() < 6).unwrap());
        variants(4).iter().for_each(take);
    })
    .unwrap();
    // The first variant was taken before it was likely.
    assert_eq!(built.into_inner().unwrap().len(), 6);
}

#[test]
fn a_cached_build_takes_no_time() {
    let done = |cached: &[bool]| -> Done {
        let build = |&cached| harness::Build { shapes: vec![0], artifact: Artifact { cached, ..artifact() } };
        let built = Built { builds: cached.iter().map(build).collect() };
        Ok(Ok(BuildOutcome { result: Ok(built), warnings: Vec::new() }))
    };
    let started = Instant::now();
    thread::sleep(Duration::from_millis(1));
    let is_none = [&[true, true][..], &[true, false], &[]].map(|cached| times(&done(cached), started).0.is_zero());
    assert_eq!(is_none, [true, false, false]);
}

fn artifact() -> Artifact {
    Artifact {
        code: "code".into(),
        hash: String::new(),
        identity: String::new(),
        functions: Vec::new(),
        defined: Vec::new(),
        command: Vec::new(),
        link: Vec::new(),
        compiler: String::new(),
        source_hash: String::new(),
        messages: String::new(),
        cached: false,
        took: Duration::ZERO,
    }
}

#[test]
fn waiting_for_a_build_ends_at_the_deadline() {
    let ended = AtomicBool::new(false);
    let build = |variant: &Variant| {
        // Like a compiler that is ended with the search.
        while !ended.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(outcome(variant))
    };
    run(&build, Meanwhile::Compile, Duration::ZERO, &ended, |pipeline| {
        let variants = variants(3);
        pipeline.want(&variants);
        let deadline = Instant::now() + Duration::from_millis(20);
        assert!(pipeline.take(&variants[0], Some(deadline), |_, _| ()).is_none());
        assert!(Instant::now() >= deadline);
    })
    .unwrap();
}

#[test]
fn when_the_time_is_up_one_variant_ends_the_compilers_of_all_others() {
    let ended = AtomicBool::new(false);
    let build = |variant: &Variant| {
        // All others are compiled until they are ended.
        while variant.0[0] != 0 && !ended.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(outcome(variant))
    };
    for by_name in [true, false] {
        ended.store(false, Ordering::Relaxed);
        run(&build, Meanwhile::Rest, Duration::ZERO, &ended, |pipeline| {
            let variants = variants(3);
            pipeline.want(&variants);
            let deadline = Instant::now() + Duration::from_millis(20);
            assert!(pipeline.take(&variants[0], Some(deadline), |_, _| ()).is_none(), "the others still compile");
            pipeline.want_only(&variants[0]);
            if by_name {
                pipeline.take(&variants[0], None, |_, _| ()).unwrap().unwrap();
            } else {
                pipeline.is_awaited(true);
                let taken = std::iter::repeat_with(|| pipeline.take_first()).find_map(|first| first).unwrap();
                assert_eq!(taken.0, variants[0]);
            }
            assert!(pipeline.take_first().is_none(), "no other is wanted");
        })
        .unwrap();
    }
}

#[test]
#[should_panic(expected = "a bug in the compiler's driver")]
fn a_panic_of_a_build_reaches_the_waiting_thread() {
    let build = |_: &Variant| -> Result<BuildOutcome, RunError> { panic!("a bug in the compiler's driver") };
    let _ = run(&build, Meanwhile::Compile, Duration::ZERO, &AtomicBool::new(false), |pipeline| {
        pipeline.want(&[Variant(vec![1])]);
        pipeline.take(&Variant(vec![1]), None, |_, _| ()).unwrap().map(drop)
    })
    .unwrap();
}
