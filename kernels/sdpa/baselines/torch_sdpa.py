"""PyTorch's scaled_dot_product_attention, one named backend of it, as a baseline for `cargo kbench`.

It gets the fp16 tensors that the kernel's FP8 inputs are quantised from (bit for bit, in files) and speaks the protocol
that kbench-runtime/src/protocol/external.rs describes, one JSON value a line on stdin and stdout.

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
import warnings

PROTOCOL = 1
ATTEMPTS = 4  # how often a sample is taken again because the device waited for the host
LONG = 5e6  # nanoseconds from which on the host's few microseconds do not matter
SHORTEST = 5e5  # nanoseconds that a hot sample should last
LARGEST_BATCH = 4096

# The name of each backend in torch.nn.attention.SDPBackend, and the operator that shows that it ran.
BACKENDS = {
    "math": ("MATH", "aten::_scaled_dot_product_attention_math"),
    "flash": ("FLASH_ATTENTION", "aten::_scaled_dot_product_flash_attention"),
    "efficient": ("EFFICIENT_ATTENTION", "aten::_scaled_dot_product_efficient_attention"),
    "cudnn": ("CUDNN_ATTENTION", "aten::_scaled_dot_product_cudnn_attention"),
}


class Unavailable(Exception):
    """It cannot be measured here; the message says why."""


class Attention:
    """What is measured."""

    def __init__(self, backend, names, device, request, alive):
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
        torch.cuda.set_device(device["index"])
        self.stream = torch.cuda.Stream()
        torch.cuda.set_stream(self.stream)
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.name = torch.cuda.get_device_name()
        self.versions = {"torch": torch.__version__, "cuda": str(torch.version.cuda), "sdpa": backend}
        if backend == "cudnn" and torch.backends.cudnn.version():
            number = torch.backends.cudnn.version()
            self.versions["cudnn"] = f"{number // 10000}.{number // 100 % 100}.{number % 100}"

        tensors = {tensor["name"]: tensor for tensor in request["tensors"]}
        missing = [name for name in names if name not in tensors]
        if missing:
            raise Unavailable(f"the table has no tensor {missing[0]}")
        self.inputs = [self.load(tensors[name]) for name in names[:3]]
        self.output = tensors[names[3]]
        self.set_up(device)
        self.cold = request["cache"] == "cold"
        self.backend = backend
        self.alive = alive
        self.start, self.stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush_bytes = max(2 * device["cache_bytes"], 64 << 20)
        self.flush = torch.empty(self.flush_bytes, dtype=torch.uint8, device="cuda")
        self.flushes = 1 if self.cold else 0
        self.last_hot = 0.0

        self.call()  # compiles, loads and chooses whatever it will
        self.prove()
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
        dtype = self.dtype(tensor)
        with open(tensor["input"], "rb") as file:
            data = bytearray(file.read())
        return self.torch.frombuffer(data, dtype=dtype).view(tensor["dims"]).cuda()

    def dtype(self, tensor):
        types = {"f16": self.torch.float16, "bf16": self.torch.bfloat16, "f32": self.torch.float32}
        if tensor["dtype"] not in types:
            raise Unavailable(f"PyTorch has no attention for {tensor['dtype']}, the type of {tensor['name']}")
        return types[tensor["dtype"]]

    def set_up(self, device):
        """What a call needs beside its inputs."""

    def call(self):
        from torch.nn.attention import SDPBackend, sdpa_kernel

        # With one backend allowed, PyTorch refuses what that one cannot do, and warns of the reasons.
        with warnings.catch_warnings(record=True) as reasons:
            warnings.simplefilter("always")
            try:
                with self.torch.no_grad(), sdpa_kernel(getattr(SDPBackend, BACKENDS[self.backend][0])):
                    return self.torch.nn.functional.scaled_dot_product_attention(*self.inputs)
            except RuntimeError as error:
                if isinstance(error, self.torch.OutOfMemoryError) or "No available kernel" not in str(error):
                    raise
                why = "; ".join(str(reason.message).split("(Triggered")[0].strip() for reason in reasons)
                raise Unavailable(f"the backend {self.backend} does not take this: {why or error}") from None

    def prove(self):
        """That the backend that was asked for is the one that runs."""
        with self.torch.profiler.profile(activities=[self.torch.profiler.ProfilerActivity.CPU]) as profile:
            self.call()
        ran = {event.key for event in profile.key_averages()}
        seen = [name for name, (_, operator) in BACKENDS.items() if operator in ran]
        if seen != [self.backend]:
            raise Unavailable(f"asked for the backend {self.backend}, PyTorch ran {' and '.join(seen) or 'another'}")

    def capture(self):
        self.synchronize()
        self.graph = self.torch.cuda.CUDAGraph(keep_graph=True)
        with self.torch.cuda.graph(self.graph, stream=self.stream):
            for _ in range(self.batch):
                self.result = self.call()
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

    def poison(self):
        self.result.fill_(float("nan"))

    def values(self):
        return self.result

    def check(self):
        """Runs the very graph that is timed, and writes what it leaves."""
        self.alive("launch")
        self.poison()
        self.launch()
        self.synchronize()
        result = self.values().contiguous().cpu()
        if list(result.shape) != self.output["dims"] or result.dtype != self.dtype(self.output):
            raise Unavailable(
                f"{self.output['name']} is {self.output['dtype']} {self.output['dims']}, "
                f"PyTorch gives {result.dtype} {list(result.shape)}"
            )
        with open(self.output["output"], "wb") as file:
            file.write(ctypes.string_at(result.data_ptr(), result.numel() * result.element_size()))


def preload(backend, device, alive):
    """Loads what takes seconds at its first use, while kbench prepares the programs that were started before this one."""
    alive("inputs")
    try:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        if device["kind"] == "cuda" and torch.cuda.is_available():
            torch.cuda.set_device(device["index"])
            small = torch.zeros(1, 1, 64, 64, dtype=torch.float16, device="cuda")
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
                with torch.no_grad(), sdpa_kernel(getattr(SDPBackend, BACKENDS[backend][0])):
                    torch.nn.functional.scaled_dot_product_attention(small, small, small)
            torch.cuda.synchronize()
    except Exception:  # said where it matters, when something is asked for
        pass


def serve(make, preload):
    """Answers requests with what `make` makes of a request to prepare."""
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

    device = attention = None
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        last[0] = None
        try:
            if request["type"] == "hello":
                device = request["device"]
                say(type="hello", protocol=PROTOCOL)
                preload(device, alive)
            elif request["type"] == "prepare":
                attention = make(device, request, alive)
                say(
                    type="prepared",
                    clock="cuda-graph",
                    batch=attention.batch,
                    device=attention.name,
                    versions=attention.versions,
                )
            elif request["type"] == "check":
                attention.check()
                say(type="checked")
            elif request["type"] == "time":
                say(type="timed", samples=attention.time(request["samples"]))
            else:
                raise ValueError(f"unknown request {request['type']}")
        except Unavailable as why:
            say(type="unavailable", message=str(why))
            return


def tensors(parser):
    parser.add_argument("--tensors", nargs=4, default=["q16", "k16", "v16", "o"], metavar=("Q", "K", "V", "O"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=BACKENDS, required=True)
    tensors(parser)
    args = parser.parse_args()
    serve(
        lambda device, request, alive: Attention(args.backend, args.tensors, device, request, alive),
        lambda device, alive: preload(args.backend, device, alive),
    )


if __name__ == "__main__":
    main()
