//! Attention over 2048 keys, where an output is about 0.03: what drops a tile of 32 keys is off by 0.07 at most, and by 0.003 on
//! average, which absolute limits hardly see. The limits that hold where the table has none must, for the coarsest type too.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const KERNEL: &str = r#"
#define attention attention_in_f32
#include "attention.h"
ATTENTION(key < s && !(DROP && key / 32 == 40))
#undef attention

static uint8_t to_e4m3(float value)
{
    uint8_t sign = value < 0 ? 128 : 0, best = 0;
    float magnitude = fabsf(value);
    for (int code = 1; code < 127; code++)
        if (fabsf(from_e4m3((uint8_t)code) - magnitude) < fabsf(from_e4m3(best) - magnitude))
            best = (uint8_t)code;
    return sign | best;
}

void attention(const uint8_t *q, const uint8_t *k, const uint8_t *v, const float *q_scale, const float *k_scale,
               const float *v_scale, uint8_t *y, int32_t m, int32_t s)
{
    static float wide[1 << 16];
    attention_in_f32(q, k, v, q_scale, k_scale, v_scale, wide, m, s);
    for (int i = 0; i < m * DIM; i++)
        y[i] = to_e4m3(wide[i]);
}
"#;

/// The table of the fixture, with an output in E4M3 and no limits.
fn package() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/c");
    let fixture = fs::read_to_string(fixtures.join("fp8-attention/Cargo.toml")).unwrap();
    let (_, table) = fixture.split_once("[package.metadata.kbench.kernels.attention]").unwrap();
    let (table, _) = table.split_once("[package.metadata.kbench.kernels.attention.gates]").unwrap();
    let table = table
        .replace("y = { dtype = \"f32\"", "y = { dtype = \"f8e4m3\"")
        .replace("../attention_reference.c", "attention_reference.c");
    let manifest = format!(
        "[package]\nname = \"attention\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
         [package.metadata.kbench.kernels.attention]\nbackend = \"c\"\ntiming.iterations = 10\n\
         gates.correctness.seeds = 2\ntoggles.macro = {{ DROP = [0, 1] }}\n{table}\n\
         backend = \"c\"\n"
    );
    fs::write(
        folder.path().join("Cargo.toml"),
        manifest.replace("backend = \"c\"\nsource = \"kernel.c\"", "source = \"kernel.c\""),
    )
    .unwrap();
    fs::write(folder.path().join("kernel.c"), KERNEL).unwrap();
    for file in ["attention.h", "attention_reference.c"] {
        fs::copy(fixtures.join(file), folder.path().join(file)).unwrap();
    }
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/lib.rs"), "").unwrap();
    folder
}

#[test]
fn a_dropped_tile_is_found_with_default_limits() {
    let package = package();
    let gate = |variant: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-kbench"));
        command.args(["kbench", "gate", "--message-format", "json", "--variant", variant]).current_dir(package.path());
        let output = command.env_remove("CARGO_TARGET_DIR").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut messages = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let verdict = messages.rfind(|message| message["reason"] == "verdict");
        verdict.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    };
    let honest = gate("DROP=0");
    assert_eq!(honest["status"], "pass", "{honest:#}");
    let large = honest["errors"].as_array().unwrap().iter().find(|errors| errors["shape"] == "large").unwrap();
    let error = |key: &str| large[key].as_f64().unwrap();
    assert!(error("max_abs_err") < 0.02 && (0.01..0.06).contains(&error("rms_err")), "{large:#}");
    // The error of quantising is another, and about as large.
    let quantization = large["quantization"]["rms_err"].as_f64().unwrap();
    let total = large["quantization"]["total_rms_err"].as_f64().unwrap();
    assert!(quantization > 0.02 && total > quantization && total > error("rms_err"), "{large:#}");

    let dropped = gate("DROP=1");
    assert_eq!((&dropped["code"], &dropped["shape"]), (&"wrong".into(), &"large".into()), "{dropped:#}");
    assert!(dropped["message"].as_str().unwrap().starts_with("rms_err 1."), "{dropped:#}");
}
