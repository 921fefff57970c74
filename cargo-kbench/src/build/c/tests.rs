use super::*;
use crate::config::Backend;

fn unit(signature: Vec<Param>) -> Unit {
    Unit {
        backend: Backend::C,
        source: "/p/src/k.c".into(),
        entries: vec![Entry::new("k", signature)],
        flags: vec![],
        macros: vec![],
        constants: vec![],
        headers: vec![],
        arch: None,
        directory: "/p".into(),
    }
}

#[test]
fn the_shim_of_a_signature() {
    let signature = vec![
        Param::Tensor { dtype: DType::F32, writable: Some(false) },
        Param::Tensor { dtype: DType::I32, writable: Some(true) },
        Param::Scalar(DType::F64),
    ];
    let unit = Unit {
        macros: [("args", "2"), ("k", "k_fast")].map(|(name, value)| (name.into(), value.into())).into(),
        ..unit(signature)
    };
    insta::assert_snapshot!(shim(&unit).unwrap(), @r#"
    /* Written by cargo kbench: the arguments that the table declares, and how it passes them. */
    #pragma push_macro("args")
    #undef args
    __attribute__((__noinline__)) void k(const float *, __INT32_TYPE__ *, double);
    __attribute__((__visibility__("default"))) void kbench_entry(void **);
    void kbench_entry(void **__kbench_args)
    {
        (void)__kbench_args;
        k((const float *)__kbench_args[0], (__INT32_TYPE__ *)__kbench_args[1], *(const double *)__kbench_args[2]);
    }
    #pragma pop_macro("args")
    #include "/p/src/k.c"
    "#);
    let unit = Unit { entries: vec![Entry::new("k", vec![])], ..unit };
    assert!(shim(&unit).unwrap().contains("void k(void);"));
}

/// A tensor between launches is written by one and read by another: its pointer may be const or not in each.
#[test]
fn the_shim_of_several_functions() {
    let between = Param::Tensor { dtype: DType::F32, writable: None };
    let unit =
        Unit { entries: ["a", "b"].map(|name| Entry::new(name, vec![between.clone()])).to_vec(), ..unit(vec![]) };
    insta::assert_snapshot!(shim(&unit).unwrap());
}

#[test]
fn arguments_without_a_c_type_are_refused() {
    assert!(matches!(shim(&unit(vec![Param::TensorMap])), Err(CompileError::Unsupported { .. })));
    for entry in ["", "1k", "k-1", "ns::k", "k(void); int x", "é"] {
        let unit = Unit { entries: vec![Entry::new(entry, vec![])], ..unit(vec![]) };
        assert!(matches!(shim(&unit), Err(CompileError::Unsupported { .. })), "{entry}");
    }
    let unit = Unit { source: "/p/a\".c".into(), ..unit(vec![]) };
    assert!(matches!(shim(&unit), Err(CompileError::Unsupported { .. })));
}

#[test]
fn stack_usage_files() {
    let text = "shim.c:3:6:k\t2112\tstatic\nk.c:7:1:helper\t48\tdynamic,bounded\nbad line\n";
    assert_eq!(largest_frame(text), Some(2112));
    assert_eq!(largest_frame(""), None);
}
