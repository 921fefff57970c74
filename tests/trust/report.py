"""Measures the measuring: repeatability, A/A, A/B, and agreement with PyTorch and Triton. Prints Markdown.

    python3 tests/trust/report.py target/release/cargo-kbench [--processes 20] [--pairs 200]

Needs an NVIDIA GPU of compute capability 9.0, nvcc, PyTorch, Triton and CuPy.
"""

import argparse
import collections
import json
import pathlib
import statistics
import subprocess
import tempfile

HERE = pathlib.Path(__file__).parent


def bench(kbench, kernel):
    command = [kbench, "kbench", "bench", "--manifest-path", HERE / "Cargo.toml", "--kernel", kernel, "--message-format", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if "entries" in message:
            return message
    raise SystemExit(f"{kernel}: {done.stdout[-500:]} {done.stderr[-500:]}")


def p50(message, name="default"):
    return next(entry for entry in message["entries"] if entry["name"] == name)["timing"]["summary"]["p50"]


def spread(values):
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return cuts[-1] / cuts[0] - 1


def repeatability(kbench, processes):
    print(f"\n## Repeatability: p50 over {processes} processes\n")
    print("| kernel | smallest | median | largest | p95 / p5 - 1 |\n|---|---|---|---|---|")
    for kernel in ["short", "short-hot", "long", "long-hot"]:
        values = [p50(bench(kbench, kernel)) for _ in range(processes)]
        low, mid, high = min(values) / 1e3, statistics.median(values) / 1e3, max(values) / 1e3
        print(f"| {kernel} | {low:.3f} µs | {mid:.3f} µs | {high:.3f} µs | {100 * spread(values):.2f} % |", flush=True)


def pairs(kbench, count):
    print(f"\n## Verdicts of {count} runs, each a process\n")
    verdicts = collections.defaultdict(collections.Counter)
    ratios = collections.defaultdict(list)
    for _ in range(count):
        for entry in bench(kbench, "short")["entries"]:
            if entry["speedup"]:
                verdicts[entry["name"]][entry["speedup"]["verdict"]] += 1
                ratios[entry["name"]].append(entry["speedup"]["speedup"]["ratio"])
    print("| candidate against | speed-up, median | 5 % to 95 % | faster | slower | same | undecided |\n|---|---|---|---|---|---|---|")
    for name, counts in verdicts.items():
        cells = " | ".join(str(counts[verdict]) for verdict in ["faster", "slower", "same", "undecided"])
        cuts = statistics.quantiles(ratios[name], n=20, method="inclusive")
        print(f"| {name} | {statistics.median(ratios[name]):.4f} | {cuts[0]:.4f} to {cuts[-1]:.4f} | {cells} |", flush=True)


def launcher(source, entry, defines, n, elements, block):
    """The kernel of the package, compiled and launched by others: a function that launches it on PyTorch's current stream."""
    import cupy
    import torch

    cubin = pathlib.Path(tempfile.mkdtemp()) / "kernel.cubin"
    subprocess.run(["nvcc", "-cubin", "-arch=sm_90a", *defines, "-o", cubin, HERE / "src" / source], check=True)
    function = cupy.RawModule(path=str(cubin)).get_function(entry)
    x = torch.randn(n, device="cuda")
    y = torch.empty_like(x)
    grid = (-(-n // (block * elements)),)

    def launch():
        stream = cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)
        with stream:
            function(grid, (block,), (x.data_ptr(), y.data_ptr(), cupy.int32(n)))

    return launch


def in_graph(launch, launches):
    """Nanoseconds a launch: the median of 50 replays of a CUDA graph, by CUDA events."""
    import torch

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(launches):
            launch()
    times = []
    for _ in range(60):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        # The first replay hides the host's work from the second.
        graph.replay()
        start.record()
        graph.replay()
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop) * 1e6 / launches)
    return statistics.median(times[10:])


def agreement(kbench):
    import triton

    print("\n## Agreement\n")
    print("| kernel | cache | kbench | other | difference |\n|---|---|---|---|---|")
    chain = [("short-hot", "350", 400), ("long-hot", "68000", 20)]
    rows = [(kernel, ("chain.cu", "chain", [f"-DWORK={work}", "-DEXTRA=0"], 16384, 1, 128), count) for kernel, work, count in chain]
    rows.append(("stream-hot", ("stream.cu", "stream", ["-DEXTRA=0"], 67108864, 4, 256), 20))
    for kernel, how, launches in rows:
        ours, theirs = p50(bench(kbench, kernel)), in_graph(launcher(*how), launches)
        print(f"| {kernel} | hot | {ours / 1e3:.3f} µs | PyTorch's CUDA graph of {launches}: {theirs / 1e3:.3f} µs | {100 * (ours / theirs - 1):+.2f} % |", flush=True)
    ours = p50(bench(kbench, "stream"))
    theirs = triton.testing.do_bench(launcher(*rows[-1][1]), warmup=100, rep=500, quantiles=[0.5]) * 1e6
    print(f"| stream | cold | {ours / 1e3:.3f} µs | Triton's do_bench: {theirs / 1e3:.3f} µs | {100 * (ours / theirs - 1):+.2f} % |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kbench")
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=200)
    options = parser.parse_args()
    kbench = pathlib.Path(options.kbench).resolve()
    agreement(kbench)
    repeatability(kbench, options.processes)
    pairs(kbench, options.pairs)


if __name__ == "__main__":
    main()
