#!/usr/bin/env python3
"""Wall time of whole searches with 1 and more workers, from the root of the repository: python3 run.py CARGO_KBENCH OUT WORKERS..."""
import json, os, re, shutil, subprocess, sys, time

tool, out, counts = os.path.abspath(sys.argv[1]), sys.argv[2], [int(n) for n in sys.argv[3:]]
os.makedirs(out, exist_ok=True)
shutil.rmtree("/tmp/kbench-workers", ignore_errors=True)
os.makedirs("/tmp/kbench-workers")
for name in ["Cargo.toml", "Cargo.lock", "cargo-kbench", "kbench-runtime", "kernels", "tests"]:
    (shutil.copytree if os.path.isdir(name) else shutil.copy)(name, f"/tmp/kbench-workers/{name}")
path = "/tmp/kbench-workers/kernels/sdpa/Cargo.toml"
text = open(path).read()
# Baselines in PyTorch are not on this machine, nor limits over them.
text = re.sub(r"performance = \[\n.*?\n\]\n", "", text, flags=re.S)
text = re.sub(r"performance = \[[^\n]*\]\n", "", text)
text = re.sub(r"\[package.metadata.kbench.baselines\]\n(.*?)\n\n", "", text, flags=re.S)
open(path, "w").write(text)

def run(name, args, limit):
    began, marks, evaluated = time.monotonic(), {}, 0
    log = open(f"{out}/{name}.txt", "w")
    process = subprocess.Popen([tool, "kbench", *args], cwd="/tmp/kbench-workers", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in process.stdout:
            now = time.monotonic() - began
            log.write(f"{now:8.3f} {line}")
            if "Evaluated" in line:
                evaluated += 1
                marks.setdefault("first", now)
                marks["last"] = now
            elif "Comparing" in line:
                marks["finals"] = now
            if now > limit:
                process.kill()
    finally:
        process.wait()
    marks.update(total=time.monotonic() - began, evaluated=evaluated, rc=process.returncode)
    return marks

figures = []
cpus = len(os.sched_getaffinity(0))
gpus = subprocess.run(["nvidia-smi", "--query-gpu=name,uuid,driver_version,pci.bus_id", "--format=csv,noheader"], capture_output=True, text=True).stdout
open(f"{out}/machine.txt", "w").write(f"{cpus} cores\n{gpus}" + subprocess.run(["nvidia-smi", "topo", "-m"], capture_output=True, text=True).stdout)
print(cpus, "cores;", gpus)
for package, kernel, more in [("matmul", "matmul", ["--strategy", "exhaustive", "--budget", "44"]), ("sdpa", "sdpa", [])]:
    select = ["-p", package, "--kernel", kernel, "--target-dir", f"/tmp/kbench-workers/target-{kernel}"]
    marks = run(f"{kernel}-build", ["build", "--all", *select], 90)
    print(kernel, "build --all", marks, flush=True)
    # The first run fills the caches of references and inputs for those that follow.
    for at, workers in enumerate(counts):
        name = f"{kernel}-{workers}-{at}"
        marks = run(name, ["autotune", "-v", "--fresh", "--cold", "--workers", str(workers), *more, *select], 100)
        elite = f"/tmp/kbench-workers/elite.json"
        winner = None
        if os.path.exists(elite):
            entry = [entry for entry in json.load(open(elite))["kernels"] if entry["kernel"] == kernel][-1]
            winner = {"toggles": entry["elite"][0]["toggles"], "p50": entry["elite"][0]["timing"]["p50"] if "p50" in entry["elite"][0]["timing"] else entry["elite"][0]["timing"]}
            shutil.copy(elite, f"{out}/{name}-elite.json")
            os.remove(elite)
        figures.append({"kernel": kernel, "workers": workers, "first": at == 0, **marks, "winner": winner})
        print(figures[-1], flush=True)
        subprocess.run(["grep", "-E", "Spent|Winner|Confidence|Finished|Lost|Workers|error|warning", f"{out}/{name}.txt"])
json.dump(figures, open(f"{out}/figures.json", "w"), indent=1)
