"""cuBLAS's fp32 product through PyTorch, without TF32, as a baseline for `cargo kbench`.

It gets the kernel's inputs bit for bit, in files, and speaks the protocol that kbench-runtime/src/protocol/external.rs
describes, one JSON value a line on stdin and stdout.

It is timed as kbench times kernels: between two events on a stream that is busy with something untimed until all is
enqueued, so that the host does not show. What runs between them is a CUDA graph: cold, of one call, behind a memset of at
least twice the L2; hot, of as many calls as take half a millisecond, behind an untimed run of the same graph.
"""

import argparse
import ctypes
import json
import os
import sys
import time

PROTOCOL = 1
ATTEMPTS = 4  # how often a sample is taken again because the device waited for the host
LONG = 5e6  # nanoseconds from which on the host's few microseconds do not matter
SHORTEST = 5e5  # nanoseconds that a hot sample should last
LARGEST_BATCH = 4096


class Unavailable(Exception):
    """It cannot be measured here; the message says why."""


class Product:
    """What is measured."""

    def __init__(self, device, request, alive):
        alive("inputs")
        try:
            import torch
        except ImportError as error:
            raise Unavailable(f"{error} (in {sys.executable})") from None
        if device["kind"] != "cuda":
            raise Unavailable(f"PyTorch is measured on CUDA devices, the kernels run on a {device['kind']} device")
        if not torch.cuda.is_available():
            raise Unavailable(f"PyTorch {torch.__version__} finds no CUDA device")
        if not hasattr(torch.cuda.CUDAGraph, "raw_cuda_graph_exec"):
            raise Unavailable(f"PyTorch {torch.__version__} does not hand out its CUDA graphs; a newer one does")
        self.torch = torch
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.cuda.set_device(device["index"])
        self.stream = torch.cuda.Stream()
        torch.cuda.set_stream(self.stream)
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.name = torch.cuda.get_device_name()
        self.versions = {"torch": torch.__version__, "cuda": str(torch.version.cuda)}

        tensors = {tensor["name"]: tensor for tensor in request["tensors"]}
        missing = [name for name in "abc" if name not in tensors]
        if missing:
            raise Unavailable(f"the table has no tensor {missing[0]}")
        self.inputs = [self.load(tensors[name]) for name in "ab"]
        self.output = tensors["c"]
        self.result = torch.empty(self.output["dims"], device="cuda")
        self.cold = request["cache"] == "cold"
        self.alive = alive
        self.start, self.stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush_bytes = max(2 * device["cache_bytes"], 64 << 20)
        self.flush = torch.empty(self.flush_bytes, dtype=torch.uint8, device="cuda")
        self.flushes = 1 if self.cold else 0
        self.last_hot = 0.0

        self.call()  # loads and chooses whatever it will
        alive("warmup")
        self.batch = 1
        self.capture()
        for _ in range(request["warmup"]):
            self.launch()
        self.synchronize()
        if not self.cold:
            while self.batch < LARGEST_BATCH:
                total = self.sample() * self.batch
                if total >= SHORTEST:
                    break
                wanted = int(self.batch * min(1.1 * SHORTEST / max(total, 1.0), 1000.0)) + 1
                self.batch = min(max(wanted, 2 * self.batch), LARGEST_BATCH)
                self.capture()

    def load(self, tensor):
        if tensor["dtype"] != "f32":
            raise Unavailable(f"{tensor['name']} is {tensor['dtype']}, this measures fp32")
        with open(tensor["input"], "rb") as file:
            data = bytearray(file.read())
        return self.torch.frombuffer(data, dtype=self.torch.float32).view(tensor["dims"]).cuda()

    def call(self):
        self.torch.mm(*self.inputs, out=self.result)

    def capture(self):
        self.synchronize()
        self.graph = self.torch.cuda.CUDAGraph(keep_graph=True)
        with self.torch.cuda.graph(self.graph, stream=self.stream):
            for _ in range(self.batch):
                self.call()
        self.graph.instantiate()
        # Launched directly: `replay` may put kernels of its own between the events, for the random generator.
        self.executable = ctypes.c_void_p(self.graph.raw_cuda_graph_exec())
        self.synchronize()

    def launch(self):
        status = self.driver.cuGraphLaunch(self.executable, ctypes.c_void_p(self.stream.cuda_stream))
        if status != 0:
            raise RuntimeError(f"cuGraphLaunch failed with CUDA error {status}")

    def synchronize(self):
        self.stream.synchronize()

    def sample(self):
        """Nanoseconds a call."""
        for attempt in range(1, ATTEMPTS + 1):
            for _ in range(self.flushes):
                self.flush.zero_()
            if not self.cold and self.last_hot < LONG:
                self.launch()
            self.start.record()
            self.launch()
            self.stop.record()
            # If the first event has not happened yet, the device was busy until all was enqueued.
            hidden = not self.start.query()
            self.synchronize()
            total = self.start.elapsed_time(self.stop) * 1e6
            if not self.cold:
                self.last_hot = total
            if hidden or total >= LONG or attempt == ATTEMPTS:
                return total / self.batch
            self.flushes = min(max(2 * self.flushes, 1), 8)

    def time(self, samples):
        self.alive("warmup")
        for _ in range(3):  # kernels ran meanwhile
            self.launch()
        self.synchronize()
        taken = []
        for _ in range(samples):
            self.alive("timing")
            taken.append(self.sample())
        return taken

    def check(self):
        """Runs the very graph that is timed, and writes what it leaves."""
        self.alive("launch")
        self.result.fill_(float("nan"))
        self.launch()
        self.synchronize()
        result = self.result.cpu()
        with open(self.output["output"], "wb") as file:
            file.write(ctypes.string_at(result.data_ptr(), result.numel() * result.element_size()))


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()

    # Standard output is for the protocol alone: whatever a library prints goes to standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**answer):
        print(json.dumps(answer), file=answers, flush=True)

    last = [None, 0.0]

    def alive(stage):
        now = time.monotonic()
        if stage != last[0] or now - last[1] > 0.2:
            last[:] = stage, now
            say(type="stage", stage=stage)

    device = product = None
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        last[0] = None
        try:
            if request["type"] == "hello":
                device = request["device"]
                say(type="hello", protocol=PROTOCOL)
            elif request["type"] == "prepare":
                product = Product(device, request, alive)
                say(
                    type="prepared",
                    clock="cuda-graph",
                    batch=product.batch,
                    device=product.name,
                    versions=product.versions,
                )
            elif request["type"] == "check":
                product.check()
                say(type="checked")
            elif request["type"] == "time":
                say(type="timed", samples=product.time(request["samples"]))
            else:
                raise ValueError(f"unknown request {request['type']}")
        except Unavailable as why:
            say(type="unavailable", message=str(why))
            return


if __name__ == "__main__":
    main()
