#!/bin/bash
# run.sh BINARY [RUNS]: the wall time of tuning `sort`, and `loop` with its fastest and its slowest variant as the default, from nothing, and where it went.
# Right: `sort` <= 5 s, `loop` with the slowest as the default <= 40 s on two cores of a virtual machine with nothing else running.
set -eu
TIMEFORMAT=%U
here=$(cd "$(dirname "$0")" && pwd)
kbench=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$here/Cargo.toml" "$here/src" "$work"
cd "$work"
for run in $(seq "${2:-2}"); do
    for what in "sort" "loop [1, 2, 4]" "loop [4, 2, 1]"; do
        read -r kernel times <<<"$what"
        [ -z "$times" ] || sed -i "s/TIMES = \[.*\]/TIMES = $times/" Cargo.toml
        rm -rf target elite.json
        load=$(cut -d' ' -f1 /proc/loadavg)
        { time "$kbench" kbench autotune --kernel "$kernel" --message-format json >messages.jsonl 2>said; } 2>user
        python3 - messages.jsonl "$what" "$load" "$(cat user)" <<'P'
import json, sys
messages = [json.loads(line) for line in open(sys.argv[1])]
tuned = next(message for message in messages if message["reason"] == "tuned")
spent = {part: round(seconds, 2) for part, seconds in tuned["spent"].items() if seconds}
over, samples = tuned["over_default"], tuned["entry"]["elite"][0]["timing"]["summary"]["n"]
over = f"{over['speedup']['ratio']:.3f} ({over['speedup']['low']:.3f} to {over['speedup']['high']:.3f}) {over['verdict']}" if over else "-"
print(f"{sys.argv[2]}: {tuned['seconds']:.1f} s ({sys.argv[4]} s of processor time) at a load of {sys.argv[3]}, {samples} rounds, {over} over the default: {spent}", flush=True)
P
    done
done
