#!/usr/bin/env bash
# What only a GPU can show, a step at a time: tests/trust/gpu.sh STEP…, or all of them.
# Needs a built cargo-kbench ($KBENCH, else target/release/cargo-kbench), nvcc, and for some steps ncu, compute-sanitizer
# and python3 with PyTorch. No cargo. Whole texts go to $OUT, else target/trust; what matters is printed.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
kbench=$(realpath "${KBENCH:-target/release/cargo-kbench}")
out=${OUT:-target/trust}
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
steps=("$@")
[[ $# -gt 0 ]] || steps=(fixtures sanitizers kernels timing profile audit speed report)

# Runs with its own target directory below $work; gives the exit code, prints nothing.
quietly() {
    local name=$1 limit=$2
    shift 2
    timeout "$limit" "$kbench" kbench "$@" --target-dir "$work/$name" >"$out/$name.txt" 2>"$out/$name.err"
}

row() { printf '%-5s %-44s %s\n' "$@"; }

# Every CUDA fixture against tests/fixtures/expected.toml.
fixtures() {
    local line name exit code got rows=()
    while IFS= read -r line; do
        name=${line%% =*}
        exit=$(sed -E 's/.*exit = ([0-9]+).*/\1/' <<<"$line")
        code=$(sed -E 's/.*code = "([a-z0-9-]+)".*/\1/' <<<"$line")
        quietly "$name" 120 gate --manifest-path tests/fixtures/Cargo.toml -p "$name" --message-format json
        got=$?
        if [[ $got == "$exit" ]] && { [[ $code == pass ]] || grep -q "\"code\":\"$code\"" "$out/$name.txt"; }; then
            rows+=("$(row ok "$name" "$code")")
        else
            rows+=("$(row WRONG "$name" "exit $got, wanted $exit and $code; $(grep -o '"message":"[^"]*"' "$out/$name.txt" | tail -1)")")
        fi
    done < <(grep -E '^cuda-' tests/fixtures/expected.toml)
    printf '%s\n' "${rows[@]}" | sort | uniq -c -w 5 | head -5
    printf '%s\n' "${rows[@]}" | grep WRONG
}

# The reports of compute-sanitizer in full, for the parser.
sanitizers() {
    local name
    for name in reads-past-the-end races-in-shared reads-uninitialised skips-a-barrier sound-under-sanitizers; do
        quietly "sanitize-$name" 120 gate -v --manifest-path tests/fixtures/Cargo.toml -p "cuda-$name"
        row $? "$name" "$(grep -m1 sanitize "$out/sanitize-$name.txt")"
    done
}

# The shipped kernels: patterns, any size, quantisation apart.
kernels() {
    local kernel
    for kernel in sdpa sdpa_fp16 sdpa_128 stage2 stage5; do
        quietly "$kernel" 200 gate -v --manifest-path kernels/sdpa/Cargo.toml --kernel "$kernel" --iters 30
        row $? "$kernel" "$(grep -m1 -E 'FAIL|quantization:|performance' "$out/$kernel.txt")"
    done
    quietly matmul-gate 200 gate -v --manifest-path kernels/matmul/Cargo.toml --kernel matmul --iters 20
    row $? matmul "$(grep -m1 -E 'FAIL|performance' "$out/matmul-gate.txt")"
}

# Convergence, clocks, resolution, discarded samples: what stands beside a time.
timing() {
    local kernel
    for kernel in sdpa matmul; do
        quietly "timing-$kernel" 200 bench --manifest-path "kernels/$kernel/Cargo.toml" --message-format json
        grep -o '"sampling":{[^}]*}[^}]*}' "$out/timing-$kernel.txt" | head -2
    done
}

profile() {
    quietly profile-sdpa 200 profile --manifest-path kernels/sdpa/Cargo.toml --shapes mission
    quietly profile-matmul 200 profile --manifest-path kernels/matmul/Cargo.toml --kernel matmul
    NCU=/nonexistent quietly profile-no-ncu 200 profile --manifest-path kernels/sdpa/Cargo.toml --kernel stage2
    cat "$out"/profile-*.txt
    head -3 "$out"/profile-*.err
}

audit() {
    local kernel
    for kernel in matmul sdpa; do
        quietly "audit-$kernel" 150 audit --manifest-path "kernels/$kernel/Cargo.toml"
        row $? "$kernel" "$(tail -1 "$out/audit-$kernel.txt")"
        grep -A3 SURVIVED "$out/audit-$kernel.txt"
    done
    # Where absolute limits see nothing.
    quietly audit-long 60 audit --manifest-path kernels/sdpa/Cargo.toml --kernel stage2 --shapes long --seeds 2
    row $? 'sdpa at long' "$(tail -1 "$out/audit-long.txt")"
}

# The wall time of tuning matmul: cold, then with what the first run left.
speed() {
    local run
    for run in cold warm; do
        timeout 120 "$kbench" kbench autotune -v --manifest-path kernels/matmul/Cargo.toml --kernel matmul --target-dir "$work/speed" \
            >"$out/speed-$run.txt" 2>"$out/speed-$run.err"
        row $? "$run" "$(grep -E 'Spent|Finished' "$out/speed-$run.err" | tr '\n' ' ')"
    done
    tail -4 "$out/speed-warm.txt"
    timeout 120 "$kbench" kbench autotune --resume -v --manifest-path kernels/matmul/Cargo.toml --kernel matmul --target-dir "$work/speed" \
        2>&1 >/dev/null | grep -E 'Spent|Finished'
}

report() {
    python3 tests/trust/report.py "$kbench" | tee "$out/report.md"
}

for step in "${steps[@]}"; do
    printf '\n== %s, after %s s\n' "$step" "$SECONDS"
    "$step"
done
