#!/bin/bash
# run.sh BINARY [SECONDS]: what a search takes for itself. Tunes `wide` from nothing and prints where the wall time went.
# Right: own <= 10 % of the wall time, and compilers busy while the device waits (utilisation >= 0.8).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kbench=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$here/Cargo.toml" "$here/src" "$work"
cd "$work"
[ -z "${2:-}" ] || sed -i "s/seconds = [0-9]*/seconds = $2/" Cargo.toml
"$kbench" kbench check
"$kbench" kbench autotune --message-format json >messages.jsonl
python3 - messages.jsonl <<'P'
import json, sys
messages = [json.loads(line) for line in open(sys.argv[1])]
tuned = next(message for message in messages if message["reason"] == "tuned")
tried = sum(message["reason"] == "evaluated" for message in messages)
spent, wall = tuned["spent"], tuned["seconds"]
print(f"{tried} evaluations in {wall:.1f} s; of the wall time:")
for part in ["verify", "time", "tools", "idle", "own"]:
    each = f", {spent[part] / tried * 1e3:.1f} ms an evaluation" if part == "own" else ""
    print(f"  {part:7} {spent[part]:6.2f} s {spent[part] / wall:6.1%}{each}")
print(f"  compilers {spent['compile']:.1f} s of all cores; utilisation while the device waited {spent['utilisation']}")
print("own <= 10 %:", "yes" if spent["own"] <= 0.1 * wall else "NO")
P
