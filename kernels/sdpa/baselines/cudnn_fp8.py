"""cuDNN's own FP8 attention, through cudnn-frontend, as a baseline for `cargo kbench`.

It quantises the fp16 tensors to E4M3 itself, with one scale a tensor, for that is what cuDNN takes; its output is E4M3 as well, and is
widened to fp16 for the check alone. Protocol and timing are those of torch_sdpa.py beside it.
"""

import argparse
import math

import torch_sdpa
from torch_sdpa import Unavailable

LARGEST = 448.0  # of E4M3


class CudnnFp8(torch_sdpa.Attention):
    def set_up(self, device):
        torch = self.torch
        try:
            import cudnn
        except ImportError as error:
            raise Unavailable(f"{error}; cuDNN's FP8 attention needs the Python package nvidia-cudnn-frontend") from None
        version = cudnn.backend_version()
        self.versions |= {
            "cudnn": f"{version // 10000}.{version // 100 % 100}.{version % 100}",
            "cudnn-frontend": getattr(cudnn, "__version__", "unknown"),
        }
        quantised, scales = [], []
        for tensor in self.inputs:
            scale = tensor.abs().max().float() / LARGEST
            quantised.append((tensor.float() / scale).to(torch.float8_e4m3fn))
            scales.append(scale)
        # What the output's scale is made from, outside of what is timed.
        largest = torch.nn.functional.scaled_dot_product_attention(*self.inputs).abs().max().float()
        self.descale = largest / LARGEST
        one = torch.ones((), device="cuda")
        scales += [one / LARGEST, one * LARGEST, 1.0 / self.descale]  # probabilities, of at most 1, and the output
        self.inputs = quantised
        self.result = torch.empty_like(quantised[0])

        self.handle = cudnn.create_handle()
        cudnn.set_stream(handle=self.handle, stream=self.stream.cuda_stream)
        graph = cudnn.pygraph(
            io_data_type=cudnn.data_type.FP8_E4M3,
            intermediate_data_type=cudnn.data_type.FLOAT,
            compute_data_type=cudnn.data_type.FLOAT,
            handle=self.handle,
        )
        fp8 = cudnn.data_type.FP8_E4M3
        single = {"dim": [1, 1, 1, 1], "stride": [1, 1, 1, 1], "data_type": cudnn.data_type.FLOAT}
        inputs = [graph.tensor(name=name, dim=list(x.shape), stride=list(x.stride()), data_type=fp8) for name, x in zip("qkv", quantised)]
        names = ["descale_q", "descale_k", "descale_v", "descale_s", "scale_s", "scale_o"]
        factors = {name: graph.tensor(name=name, **single) for name in names}
        output, _, *largest_values = graph.sdpa_fp8(
            q=inputs[0],
            k=inputs[1],
            v=inputs[2],
            **factors,
            is_inference=True,
            attn_scale=1.0 / math.sqrt(quantised[0].shape[-1]),
        )
        output.set_output(True).set_dim(list(self.result.shape)).set_stride(list(self.result.stride())).set_data_type(fp8)
        for value in largest_values:
            value.set_output(True).set_dim([1, 1, 1, 1]).set_stride([1, 1, 1, 1]).set_data_type(cudnn.data_type.FLOAT)
        try:
            graph.build([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        except cudnn.cudnnGraphNotSupportedError as error:
            raise Unavailable(f"cuDNN {self.versions['cudnn']} does not take this: {error}") from None
        buffers = [*quantised, *(scale.reshape(1, 1, 1, 1) for scale in scales), self.result]
        buffers += [torch.zeros(1, 1, 1, 1, device="cuda") for _ in largest_values]
        self.pack = dict(zip([*inputs, *factors.values(), output, *largest_values], buffers))
        self.workspace = torch.empty(max(graph.get_workspace_size(), 1), dtype=torch.uint8, device="cuda")
        self.graph_of_cudnn = graph
        self.synchronize()

    def call(self):
        self.graph_of_cudnn.execute(self.pack, self.workspace, handle=self.handle)
        return self.result

    def prove(self):
        """There is one graph, and it has run."""

    def poison(self):
        self.result.view(self.torch.uint8).fill_(0x7F)  # NaN

    def values(self):
        return (self.result.float() * self.descale).to(self.torch.float16)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    torch_sdpa.tensors(parser)
    args = parser.parse_args()
    torch_sdpa.serve(
        lambda device, request, alive: CudnnFp8("cudnn", args.tensors, device, request, alive),
        lambda device, alive: torch_sdpa.preload("cudnn", device, alive),
    )


if __name__ == "__main__":
    main()
