#!/usr/bin/env python3
"""A/A and A/B by the finals of searches: python3 finals.py CARGO_KBENCH KERNEL RUNS [FOLDER].

Tunes KERNEL of the table in FOLDER (this folder; `c` for C kernels) RUNS times from nothing but compiled code. The finals compare two variants, one of which
takes 2 % (`c`: 5 %) longer, with `twin`, which is the same code as the faster one under another name. Prints Markdown: how often the faster variant won, the verdicts on it against the other
one, how often the intervals of the speed-up over `twin` cover 1, and how many of them say a difference of more than 1 %.
"""
import collections, json, os, shutil, statistics, subprocess, sys, tempfile, time

tool, kernel, runs = os.path.abspath(sys.argv[1]), sys.argv[2], int(sys.argv[3])
here = os.path.dirname(os.path.abspath(__file__))
work = tempfile.mkdtemp()
shutil.copytree(here, f"{work}/trust", ignore=shutil.ignore_patterns("target", "elite.json"))
folder = os.path.join(work, "trust", sys.argv[4] if len(sys.argv) > 4 else ".")
winners, verdicts, rounds = collections.Counter(), collections.Counter(), []
covered, apart, ratios, slower, seconds = 0, 0, [], [], []
try:
    for _ in range(runs):
        began = time.monotonic()
        command = [tool, "kbench", "autotune", "--kernel", kernel, "--fresh", "--cold", "--message-format", "json"]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        seconds.append(time.monotonic() - began)
        if ended.returncode != 0:
            sys.exit(ended.stderr)
        tuned = [json.loads(line) for line in ended.stdout.splitlines() if '"tuned"' in line][-1]
        os.remove(f"{folder}/elite.json")
        best = tuned["entry"]["elite"][0]
        winners[json.dumps(best["toggles"])] += 1
        over_second = tuned["over_second"]
        verdicts[over_second["verdict"] if over_second else "-"] += 1
        if over_second:
            slower.append(over_second["speedup"]["ratio"])
        twin = best["speedups"]["twin"]
        ratios.append(twin["ratio"])
        covered += twin["low"] <= 1 <= twin["high"]
        apart += twin["low"] > 1.01 or twin["high"] < 0.99
        rounds.append(best["timing"]["summary"]["n"])
finally:
    shutil.rmtree(work)
named = lambda counter: ", ".join(f"{name} {count}" for name, count in counter.most_common())
spread = lambda values: f"{statistics.median(values):.4f} ({min(values):.4f} to {max(values):.4f})" if values else "-"
print("| kernel | runs | winner | over rank 2 | verdict | over its twin | intervals with 1 | called different | rounds | seconds a run |")
print("|---|---|---|---|---|---|---|---|---|---|")
print(
    f"| {kernel} | {runs} | {named(winners)} | {spread(slower)} | {named(verdicts)} | {spread(ratios)} | {covered} | {apart} "
    f"| {min(rounds)} to {max(rounds)} | {statistics.median(seconds):.2f} |",
    flush=True,
)
