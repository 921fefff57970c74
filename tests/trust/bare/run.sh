#!/bin/bash
# run.sh BINARY [RUNS]: the wall time of tuning `bare`, from nothing, with one seed and with five, and where it went.
# Right: <= 8 s with one seed, <= 10 s with five.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kbench=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cp "$here/Cargo.toml" "$work"
cp "$here"/../../../kernels/matmul/src/{matmul,reference}.cu "$work/src"
touch "$work/src/lib.rs"
cd "$work"
for run in $(seq "${2:-2}"); do
    for seeds in 1 5; do
        rm -rf target elite.json
        began=$EPOCHREALTIME
        "$kbench" kbench autotune --seeds "$seeds" --message-format json >messages.jsonl
        python3 - messages.jsonl "$seeds" "$began" "$EPOCHREALTIME" <<'P'
import json, sys
messages = [json.loads(line) for line in open(sys.argv[1])]
tuned = next(message for message in messages if message["reason"] == "tuned")
tried = sum(message["reason"] == "evaluated" for message in messages)
wall = float(sys.argv[4]) - float(sys.argv[3])
spent = {part: round(seconds, 2) for part, seconds in tuned["spent"].items() if seconds}
print(f"{sys.argv[2]} seeds: {wall:.2f} s, {tried} variants, the search {tuned['seconds']:.2f} s of it: {spent}")
P
    done
done
