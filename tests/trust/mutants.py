#!/usr/bin/env python3
"""Changes the code that judges kernels, one mutant at a time, and counts the changes that no unit test notices.

    cargo install cargo-mutants --locked
    tests/trust/mutants.py [--only PART] [--shard K/N] [--jobs N]

Every mutant that survives must be in mutants.txt with a reason, and every line there must name a mutant that survives. At least
95 % of the mutants that compile must be caught. A mutant costs a build and the unit tests of its part: a whole run takes hours;
`--shard 0/8` runs an eighth of it. `--count` names the mutants and runs none.
"""

import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CAUGHT = 0.95

# Each part: its package, its files, and which unit tests run. These files below a judging folder judge nothing: `gates/launch/fit.rs` warns of a
# table, `gates/sanitize/{run,ahead}.rs` and `gates/counters/profile.rs` run tools whose output is judged in the files beside them,
# `gates/performance/compare/contender.rs` builds, and `compare/bench.rs` measures. Load must not decide which mutants survive: the unit
# tests of the files that launch kernels in pairs take their times from the fake device.
GATES = "cargo-kbench/src/gates"
PARTS = {
    "verify": ("kbench-runtime", ["kbench-runtime/src/verify/**"], ["verify::"]),
    "measure": (
        "kbench-runtime",
        [f"kbench-runtime/src/measure/{name}" for name in (
            "statistics.rs", "statistics/**", "stopping.rs", "adjusted.rs", "warmup.rs", "decided.rs", "pairs.rs", "memory_faults.rs", "recheck.rs",
            "case.rs", "cheating.rs", "back_to_back.rs",
        )],
        ["measure::"],
    ),
    "gates": (
        "cargo-kbench",
        [f"{GATES}/{name}" for name in (
            "mod.rs", "correctness/mod.rs", "correctness/check.rs", "correctness/judge.rs", "counters/mod.rs", "launch/mod.rs",
            "resources/mod.rs", "resources/launchable.rs", "sanitize/mod.rs", "sanitize/judge.rs", "performance/*.rs",
            "performance/compare/mod.rs", "performance/compare/compared.rs", "performance/compare/entrant.rs", "performance/compare/measure.rs",
            "performance/compare/rival.rs",
        )] + ["cargo-kbench/src/record/verdict.rs"],
        ["gates::"],
    ),
    "elite": (
        "cargo-kbench",
        [f"cargo-kbench/src/tune/{name}.rs" for name in ("tie", "portfolio", "conclusion", "objectives", "finalists", "headroom")],
        ["tune::"],
    ),
    "record": ("cargo-kbench", [f"cargo-kbench/src/record/{name}.rs" for name in ("sealed", "elite/merge")], ["record::"]),
    "compare": ("cargo-kbench", [f"cargo-kbench/src/compare/{name}.rs" for name in ("mod", "read", "resource_diff")], ["compare::"]),
}


def cargo_mutants(*arguments):
    return ["cargo", "mutants", "--dir", str(ROOT), *arguments]


def key(mutant):
    """A name that outlives other changes of the file: the change, the function, and the line of code."""
    path, line, _, change = re.fullmatch(r"(.*?):(\d+):(\d+): (.*)", mutant["name"]).groups()
    code = (ROOT / path).read_text().splitlines()[int(line) - 1].strip()
    return f"{change} | {code}"


def run(part, options):
    """The outcome of each mutant of a part: (mutant, summary)."""
    package, files, tests = PARTS[part]
    select = ["--package", package] + [word for file in files for word in ("--file", file)]
    if options.shard:
        select += ["--shard", options.shard, "--sharding", "round-robin"]
    if options.count:
        listed = subprocess.run(cargo_mutants("--list", "--json", *select), check=True, capture_output=True, text=True)
        return [(mutant, "NotRun") for mutant in json.loads(listed.stdout)]
    output = ROOT / "target" / "mutants" / part
    output.mkdir(parents=True, exist_ok=True)
    command = cargo_mutants(
        *select, "--output", str(output), "--jobs", str(options.jobs), "--timeout", "120",
        "--cargo-arg=--config=profile.dev.debug=false",
        "--cargo-arg=--config=profile.dev.package.kbench-runtime.opt-level=0",
        "--", "--lib", "--", *tests,
    )
    ended = subprocess.run(command).returncode
    # 2: some were missed, 3: some timed out.
    if ended not in (0, 2, 3):
        sys.exit(f"cargo mutants failed with {ended}")
    outcomes = json.loads((output / "mutants.out" / "outcomes.json").read_text())["outcomes"]
    return [(outcome["scenario"]["Mutant"], outcome["summary"]) for outcome in outcomes if "Mutant" in outcome["scenario"]]


def survivors():
    """How often each survivor is listed. Every block of them must begin with a reason."""
    listed, reason = collections.Counter(), False
    for number, line in enumerate((HERE / "mutants.txt").read_text().splitlines(), 1):
        if line.startswith("#"):
            reason = True
        elif not line.strip():
            reason = False
        elif reason:
            listed[line.strip()] += 1
        else:
            sys.exit(f"mutants.txt:{number}: a survivor without a reason")
    return listed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--shard", metavar="K/N", help="every N-th mutant, from the K-th on, counted from 0")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--count", action="store_true", help="count the mutants and run none")
    options = parser.parse_args()

    listed = survivors()
    files = collections.defaultdict(collections.Counter)
    survived, known = collections.Counter(), collections.Counter()
    for part in [options.only] if options.only else PARTS:
        for mutant, summary in run(part, options):
            files[mutant["file"]][summary] += 1
            known[key(mutant)] += 1
            survived[key(mutant)] += summary == "MissedMutant"

    columns = ["CaughtMutant", "Timeout", "MissedMutant", "Unviable", "NotRun"]
    print("| file | caught | timed out | missed | unviable | not run |\n| --- | --- | --- | --- | --- | --- |")
    for file, counts in sorted(files.items()):
        print(f"| {file} | {' | '.join(str(counts[column]) for column in columns)} |")
    if options.count:
        return

    faults = [f"survived and is not in mutants.txt: {name}" for name in sorted((survived - listed).elements())]
    # Of a part of all mutants, nothing is known of the others.
    whole = not (options.shard or options.only)
    caught = (listed - survived).elements() if whole else (name for name in listed if known[name] and not survived[name])
    faults += [f"is in mutants.txt and did not survive: {name}" for name in sorted(caught)]
    total = sum(files.values(), collections.Counter())
    killed = total["CaughtMutant"] + total["Timeout"]
    viable = killed + total["MissedMutant"]
    print(f"\n{killed} of {viable} mutants caught: {killed / max(viable, 1):.1%}")
    if killed < CAUGHT * viable:
        faults.append(f"fewer than {CAUGHT:.0%} were caught")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
