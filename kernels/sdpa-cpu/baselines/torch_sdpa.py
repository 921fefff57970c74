"""PyTorch's scaled_dot_product_attention on the CPU, one named backend of it, as a baseline for `cargo kbench`.

It gets the kernel's inputs bit for bit, in files, and speaks the protocol that kbench-runtime/src/protocol/external.rs
describes, one JSON value a line on stdin and stdout. A sample is the mean of as many calls as take half a millisecond,
behind an untimed one; with a cold cache it is one call, behind a write of twice the last cache.
"""

import argparse
import ctypes
import json
import os
import sys
import time

PROTOCOL = 1
SHORTEST = 5e5  # nanoseconds that a hot sample should last
LARGEST_BATCH = 4096

# The name of each backend in torch.nn.attention.SDPBackend, and the operator that shows that it ran.
BACKENDS = {
    "math": ("MATH", "aten::_scaled_dot_product_attention_math"),
    "flash": ("FLASH_ATTENTION", "aten::_scaled_dot_product_flash_attention_for_cpu"),
}


class Unavailable(Exception):
    """It cannot be measured here; the message says why."""


class Attention:
    """What is measured."""

    def __init__(self, backend, threads, device, request, alive):
        alive("inputs")
        try:
            import torch
        except ImportError as error:
            raise Unavailable(f"{error} (in {sys.executable})") from None
        if device["kind"] != "host":
            raise Unavailable(f"this measures PyTorch on the CPU, the kernels run on a {device['kind']} device")
        torch.set_num_threads(threads)
        self.torch, self.backend, self.alive = torch, backend, alive
        self.versions = {
            "torch": torch.__version__,
            "sdpa": backend,
            "threads": str(torch.get_num_threads()),
            "cpu": torch.backends.cpu.get_cpu_capability(),
        }
        tensors = {tensor["name"]: tensor for tensor in request["tensors"]}
        missing = [name for name in "qkvo" if name not in tensors]
        if missing:
            raise Unavailable(f"the table has no tensor {missing[0]}")
        self.inputs = [self.load(tensors[name]) for name in "qkv"]
        self.output = tensors["o"]
        self.cold = request["cache"] == "cold"
        self.flush = torch.empty(max(2 * device["cache_bytes"], 64 << 20), dtype=torch.uint8) if self.cold else None

        self.call()  # chooses and allocates whatever it will
        self.prove()
        alive("warmup")
        self.batch = 1
        for _ in range(request["warmup"]):
            self.call()
        while not self.cold and self.batch < LARGEST_BATCH and (total := self.sample() * self.batch) < SHORTEST:
            wanted = int(self.batch * min(1.1 * SHORTEST / max(total, 1.0), 1000.0)) + 1
            self.batch = min(max(wanted, 2 * self.batch), LARGEST_BATCH)

    def load(self, tensor):
        if tensor["dtype"] != "f32":
            raise Unavailable(f"{tensor['name']} is {tensor['dtype']}, this measures fp32")
        with open(tensor["input"], "rb") as file:
            data = bytearray(file.read())
        return self.torch.frombuffer(data, dtype=self.torch.float32).view(tensor["dims"])

    def call(self):
        from torch.nn.attention import SDPBackend, sdpa_kernel

        with self.torch.no_grad(), sdpa_kernel(getattr(SDPBackend, BACKENDS[self.backend][0])):
            return self.torch.nn.functional.scaled_dot_product_attention(*self.inputs)

    def prove(self):
        """That the backend that was asked for is the one that runs."""
        with self.torch.profiler.profile(activities=[self.torch.profiler.ProfilerActivity.CPU]) as profile:
            self.call()
        ran = {event.key for event in profile.key_averages()}
        seen = [name for name, (_, operator) in BACKENDS.items() if operator in ran]
        if seen != [self.backend]:
            raise Unavailable(f"asked for the backend {self.backend}, PyTorch ran {' and '.join(seen) or 'another'}")

    def sample(self):
        """Nanoseconds a call. The backend is chosen outside the clock."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        attention, inputs = self.torch.nn.functional.scaled_dot_product_attention, self.inputs
        with self.torch.no_grad(), sdpa_kernel(getattr(SDPBackend, BACKENDS[self.backend][0])):
            if self.cold:
                self.flush.fill_(1)
            else:
                attention(*inputs)
            start = time.perf_counter_ns()
            for _ in range(self.batch):
                attention(*inputs)
            return (time.perf_counter_ns() - start) / self.batch

    def time(self, samples):
        self.alive("warmup")
        for _ in range(3):  # kernels ran meanwhile
            self.call()
        taken = []
        for _ in range(samples):
            self.alive("timing")
            taken.append(self.sample())
        return taken

    def check(self):
        """Runs once what is timed, and writes what it returns, which is memory that no earlier call wrote."""
        self.alive("launch")
        result = self.call().contiguous()
        if list(result.shape) != self.output["dims"] or result.dtype != self.torch.float32:
            raise Unavailable(f"PyTorch gives {result.dtype} {list(result.shape)}, o is f32 {self.output['dims']}")
        with open(self.output["output"], "wb") as file:
            file.write(ctypes.string_at(result.data_ptr(), result.numel() * result.element_size()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=BACKENDS, default="flash")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

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
            elif request["type"] == "prepare":
                attention = Attention(args.backend, args.threads, device, request, alive)
                say(type="prepared", clock="monotonic", batch=attention.batch, versions=attention.versions)
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


if __name__ == "__main__":
    main()
