use super::*;

fn of(source: &str) -> Vec<(usize, String, String)> {
    let made = mutants(source, Path::new("/k.cu"), &["k"]);
    let text = |mutant: &SourceMutant| mutant.text.strip_prefix("#line 1 \"/k.cu\"\n").unwrap().to_owned();
    made.iter().map(|mutant| (mutant.line, mutant.what.clone(), text(mutant))).collect()
}

/// The new text in the changed line of the only mutant.
fn one(source: &str) -> String {
    let made = of(source);
    assert_eq!(made.len(), 1, "{made:?}");
    made[0].2.clone()
}

#[test]
fn one_mutant_drops_one_barrier() {
    let source = "f();\n__syncthreads(); // __syncthreads();\nif (x)\n    __syncwarp( mask\n);\n\"__syncwarp();\";";
    let made = of(source);
    assert_eq!(made.len(), 2, "{made:?}");
    assert_eq!((made[0].0, &*made[0].1), (2, "drops `__syncthreads()`"));
    assert_eq!(made[0].2, source.replacen("__syncthreads()", "(void)0", 1));
    assert_eq!((made[1].0, &*made[1].1), (4, "drops `__syncwarp( mask )`"));
    assert_eq!(made[1].2, source.replacen("__syncwarp( mask\n)", "(void)0\n", 1), "lines stay where they were");
}

#[test]
fn every_spelling_of_a_barrier_is_found() {
    for statement in [
        "cp_async_wait<1>()",
        "cp_async_wait<kStages - 2>()",
        "cg::this_thread_block().sync()",
        "ready[block % kStages].wait(std::move(token))",
        "mbarrier_wait(&full[stage], phase)",
        "pipe->consumer_wait()",
        "::my::named_barrier(3, 128)",
        "asm volatile(\"bar.sync %0;\" ::\"r\"(1) : \"memory\")",
        "__asm__ __volatile__(\"cp.async.wait_group \"\n \"%0;\" :: \"n\"(N))",
    ] {
        let source = format!("void k() {{ a(); {statement}; b(); }}");
        let lines = "\n".repeat(statement.matches('\n').count());
        assert_eq!(one(&source), format!("void k() {{ a(); (void)0{lines}; b(); }}"));
    }
    assert_eq!(one("{\n#pragma omp barrier\n}"), "{\n\n}");
}

#[test]
fn names_that_resemble_barriers_are_kept() {
    for source in [
        "void cp_async_wait() { x(); }",
        "void cp_async_wait();",
        "int done = bar.wait();",
        "return queue.wait();",
        "wmma::mma_sync(a, b, c, d); load_matrix_sync(a, b, 3);",
        "asm volatile(\"mov.u32 %0, %%tid.x;\" : \"=r\"(index));",
        "#define SYNC() __syncthreads();",
        "while (!bar.try_wait(token)) {}",
    ] {
        assert_eq!(of(source), [], "{source}");
    }
}

#[test]
fn loops_over_tiles_end_one_step_early() {
    for (head, want) in [
        ("int n = 0; n < seq; n += TILE_N", "int n = 0; n < (seq) - (TILE_N); n += TILE_N"),
        ("int n = 0; n <= a + b; n += T * 2", "int n = 0; n <= (a + b) - (T * 2); n += T * 2"),
        ("; i + U <= rows; i = i + U", "; i + U <= (rows) - (U); i = i + U"),
        ("int keys = seq; keys > 0; ++b, keys -= T", "int keys = seq; keys > (0) + (T); ++b, keys -= T"),
        ("int n = 0; end != n; n += f(T, 1)", "int n = 0; (end) - (f(T, 1)) != n; n += f(T, 1)"),
        ("int tile = 0; tile < count; ++tile", "int tile = 0; tile < (count) - (1); ++tile"),
        ("int i = 0; i < num_blocks; i++", "int i = 0; i < (num_blocks) - (1); i++"),
    ] {
        assert_eq!(one(&format!("for ({head}) {{ f(n); }}")), format!("for ({want}) {{ f(n); }}"));
    }
}

#[test]
fn a_loop_that_advances_in_its_body_starts_one_step_later() {
    let source = "for (int keys = seq; keys > 0; stage ^= 1) { for (int b = 0; b < 4 && keys > 0; ++b, keys -= T) {} }";
    assert_eq!(one(source), source.replacen("= seq", "= (seq) - (T)", 1));
    assert_eq!(of(source)[0].1, "`int keys = seq` starts one step of T later");
}

#[test]
fn loops_over_elements_and_odd_loops_stay() {
    for head in [
        "int i = 0; i < n; ++i",
        "auto x : xs",
        ";;",
        "int i = 0; i < n && go; i += T",
        "int i = 0; i < n - i; i += T",
        "int i = n; i--;",
        "int j = 0; j < TILE_N; ++j",
        "int tile = 0; tile < tile_size; ++tile",
    ] {
        assert_eq!(of(&format!("for ({head}) {{ f(i); }}")), [], "{head}");
    }
}

#[test]
fn loops_with_named_steps_are_mutated_first() {
    let mut source = "for (int e = 0; e < 8; e += 2) {}\n".repeat(CANDIDATES);
    source.push_str("for (int n = 0; n < seq; n += TILE) {}\n");
    let made = of(&source);
    assert_eq!((made.len(), made[0].0), (CANDIDATES, CANDIDATES + 1));
}

#[test]
fn other_kernels_of_the_file_are_not_mutated() {
    let kernel = |head: &str| format!("{head}(int *x) {{ __syncthreads(); }}\n");
    let source = kernel("extern \"C\" __global__ void __launch_bounds__(256) k") + &kernel("__global__ void other");
    let made = of(&source);
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].0, 1);
    assert_eq!(mutants(&source, Path::new("k.cu"), &["_Z5otherPi"]).len(), 1);
    assert_eq!(mutants(&source, Path::new("k.cu"), &["ns::other<64>(int*)"])[0].line, 2);
    // A declaration has no body to leave out.
    assert_eq!(of("__global__ void other(int *); void f() { __syncthreads(); }").len(), 1);
}

#[test]
fn the_shipped_kernels_have_barriers_and_tiles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels");
    for (path, entry, barriers, tiles) in [
        ("matmul/src/matmul.cu", "matmul", 2, 1),
        ("sdpa/src/sdpa.cu", "sdpa", 13, 14),
        ("sdpa-cpu/src/sdpa.c", "sdpa", 0, 7),
    ] {
        let source = std::fs::read_to_string(root.join(path)).unwrap();
        let made = mutants(&source, &root.join(path), &[entry]);
        let count = |lack| made.iter().filter(|mutant| mutant.lack == lack).count();
        assert_eq!(
            (count(Lack::Barrier), count(Lack::Tile)),
            (barriers, tiles),
            "{path}: {:#?}",
            made.iter().map(|mutant| (mutant.line, &mutant.what)).collect::<Vec<_>>()
        );
    }
}

/// The changes of one kind: line and text.
fn of_lack(lack: Lack, source: &str) -> Vec<(usize, String)> {
    let made = mutants(source, Path::new("/k.cu"), &["k"]);
    made.into_iter().filter(|mutant| mutant.lack == lack).map(|mutant| (mutant.line, mutant.what)).collect()
}

#[test]
fn reductions_start_from_zero() {
    for (statement, neutral) in [
        ("float max = -INFINITY;", "-INFINITY"),
        ("float low = FLT_MAX, high = 3;", "FLT_MAX"),
        ("m[0] = m[1] = -FLT_MAX;", "-FLT_MAX"),
        ("x = i < n ? a[i] : -CUDART_INF_F;", "-CUDART_INF_F"),
        ("auto m = std::numeric_limits<float>::lowest();", "std::numeric_limits<float>::lowest()"),
        ("m = -cuda::std::numeric_limits<T>::infinity();", "-cuda::std::numeric_limits<T>::infinity()"),
        ("float m = -1e30f;", "-1e30f"),
        ("m = fmaxf(-3.4e38f, m);", "-3.4e38f"),
        ("m = __int_as_float(0xff800000);", "__int_as_float(0xff800000)"),
        ("m = NEG_INF;", "NEG_INF"),
        ("int most = INT_MIN;", "INT_MIN"),
        ("float product = 1.0f; product *= x[i];", "1.0f"),
        ("float p = 1; p = p * x;", "1"),
    ] {
        let source = format!("a();\n{statement}");
        assert_eq!(
            of_lack(Lack::Neutral, &source),
            [(2, format!("starts from 0 instead of `{neutral}`"))],
            "{statement}"
        );
        assert!(one(&source).contains(&statement.replacen(neutral, "0", 1)), "{}", one(&source));
    }
}

#[test]
fn starts_that_are_no_neutral_element_are_kept() {
    for source in [
        "if (m == -INFINITY) m = y;",
        "float x = -1.0f;",
        "float y = -INFINITY * x;",
        "float scale = 1.0f; y = scale + x;",
        "for (int s = 1; s < n; s *= 2) f(s);",
        "int stride = 1; stride *= 2;",
        "float max = x[0];",
        "x = numeric_limits<float>::epsilon();",
    ] {
        assert_eq!(of_lack(Lack::Neutral, source), [], "{source}");
    }
}

#[test]
fn initialisations_of_shared_memory_are_dropped() {
    let declared = "__shared__ float sums[32], total;\n__shared__ alignas(16) int bins[N][4];\n";
    for (statement, dropped) in [
        ("if (t == 0) total = 0;", "total = 0"),
        ("for (;;) sums[i + 1] = 0.0f;", "sums[i + 1] = 0.0f"),
        ("bins[i][2] = -INT_MAX;", "bins[i][2] = -INT_MAX"),
        ("{ total = float(0); }", "total = float(0)"),
    ] {
        let source = format!("{declared}{statement}");
        assert_eq!(of_lack(Lack::Initialisation, &source), [(3, format!("drops `{dropped}`"))], "{statement}");
    }
    for statement in ["total = x;", "other = 0;", "sums[0] += 1;", "float y = total = 0;", "if (total == 0) f();"] {
        assert_eq!(of_lack(Lack::Initialisation, &format!("{declared}{statement}")), [], "{statement}");
    }
    assert_eq!(of_lack(Lack::Initialisation, "float total; total = 0;"), [], "not shared");
}
