"""Whether intervals cover the truth, on an idle machine and beside busy loops. Prints Markdown.

    python3 tests/trust/coverage.py target/release/cargo-kbench [--gates 100] [--loads 0,1,2,4] [--truth 20]
    python3 tests/trust/coverage.py target/release/cargo-kbench --gates 5 --loads 0,2 --truth 5      # a look
    python3 tests/trust/coverage.py target/release/cargo-kbench --gpu                                # beside another process on the GPU

The truth is the median speed-up of `--truth` runs on the machine as it is when this starts, so nothing else should run then. A
load of L starts L endless loops for each core. A gate covers where the truth lies in the interval that it printed (widened by how
much the runs of the truth differ: a process places its memory anew), or where its verdict is `undecided`. Needs cc, for `--gpu` nvcc.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent

LOOP = "int main(void) { for (volatile long i = 0;; i++); }"

# A process that multiplies matrices without end, launches of some milliseconds.
BUSY_GPU = """
__global__ void busy(float *x) { float s = x[threadIdx.x]; for (long k = 0; k < 2000000; k++) s = fmaf(s, 0.5f, 1.0f); x[threadIdx.x] = s; }
int main() { float *x; cudaMalloc(&x, 4096); for (;;) { busy<<<1056, 256>>>(x); cudaDeviceSynchronize(); } }
"""


def bench(kbench, folder, kernel, target):
    """The speed-ups of the default over each baseline, with their verdicts."""
    command = [kbench, "kbench", "bench", "--manifest-path", folder / "Cargo.toml", "--kernel", kernel, "--target-dir", target]
    done = subprocess.run([*command, "--message-format", "json"], capture_output=True, text=True)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if "entries" in message:
            for name, why in message.get("unavailable", {}).items():
                print(f"\nnot measured: {kernel}, {name}: {why}", file=sys.stderr, flush=True)
            return {entry["name"]: entry["speedup"] for entry in message["entries"] if entry["speedup"]}
    raise SystemExit(f"{kernel}: {done.stdout[-500:]} {done.stderr[-500:]}")


@contextlib.contextmanager
def load(command, count):
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        time.sleep(0.5 if count else 0)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def covers(speedup, low, high):
    interval = speedup["speedup"]
    return speedup["verdict"] == "undecided" or (interval["low"] <= high and low <= interval["high"])


def measure(run, kernels, loads, options):
    """`loads` are names with what starts each; the first is the machine as it is."""
    truths = collections.defaultdict(list)
    for _ in range(options.truth):
        for kernel in kernels:
            for name, speedup in run(kernel).items():
                truths[kernel, name].append(speedup["speedup"]["ratio"])
    print(f"\n| load | kernel | over | truth ({options.truth} runs) | covered | undecided | faster | slower | same | ratios, 5 % to 95 % | seconds each |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    worst = 1.0
    for name_of_load, start in loads:
        rows = collections.defaultdict(list)
        seconds = collections.defaultdict(float)
        with start():
            for _ in range(options.gates):
                for kernel in kernels:
                    started = time.monotonic()
                    for name, speedup in run(kernel).items():
                        rows[kernel, name].append(speedup)
                    seconds[kernel] += time.monotonic() - started
        for (kernel, name) in truths:
            speedups = rows[kernel, name]
            if not speedups:
                worst = 0.0
                print(f"| {name_of_load} | {kernel} | {name} | | 0 of {options.gates} | | | | | | |", flush=True)
                continue
            truth = sorted(truths[kernel, name])
            covered = sum(covers(speedup, truth[0], truth[-1]) for speedup in speedups)
            # A gate without a verdict on right kernels is as wrong as one with a wrong verdict.
            worst = min(worst, covered / options.gates)
            counts = collections.Counter(speedup["verdict"] for speedup in speedups)
            ratios = [speedup["speedup"]["ratio"] for speedup in speedups]
            cuts = statistics.quantiles(ratios, n=20, method="inclusive") if len(ratios) > 1 else ratios * 2
            print(
                f"| {name_of_load} | {kernel} | {name} | {statistics.median(truth):.4f} ({truth[0]:.4f} to {truth[-1]:.4f}) | {covered} of {options.gates} | "
                + " | ".join(str(counts[verdict]) for verdict in ["undecided", "faster", "slower", "same"])
                + f" | {cuts[0]:.4f} to {cuts[-1]:.4f} | {seconds[kernel] / len(speedups):.1f} |",
                flush=True,
            )
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kbench")
    parser.add_argument("--gates", type=int, default=100)
    parser.add_argument("--loads", default="0,1,2,4")
    parser.add_argument("--truth", type=int, default=20)
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    kbench = pathlib.Path(options.kbench).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        target = folder / "target"
        if options.gpu:
            (folder / "busy.cu").write_text(BUSY_GPU)
            subprocess.run([os.environ.get("NVCC", "nvcc"), "-O2", "-o", folder / "busy", folder / "busy.cu"], check=True)
            loads = [(str(count), lambda count=count: load([folder / "busy"], count)) for count in [0, 1]]
            kernels = {"short": HERE, "long": HERE}
        else:
            (folder / "loop.c").write_text(LOOP)
            subprocess.run(["cc", "-O1", "-o", folder / "loop", folder / "loop.c"], check=True)
            subprocess.run([kbench, "kbench", "new", "template", "-q"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            cores = len(os.sched_getaffinity(0))
            wanted = [int(count) for count in options.loads.split(",")]
            loads = [(f"{count} a core", lambda count=count: load([folder / "loop"], count * cores)) for count in wanted]
            kernels = {"matmul": folder / "template", "chain": HERE / "c"}
        run = lambda kernel: bench(kbench, kernels[kernel], kernel, target)
        worst = measure(run, list(kernels), loads, options)
    print(f"\ncovered at least: {100 * worst:.0f} %")
    raise SystemExit(0 if worst >= 0.95 else 1)


if __name__ == "__main__":
    main()
