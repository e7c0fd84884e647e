"""Golden values of N-BEATS networks from neuralforecast, an independent implementation.

Run in an environment with torch, neuralforecast and safetensors:  python make_golden.py
It writes golden.safetensors beside itself: per case the weights under the names this project uses, synthetic inputs, and the
outputs without the last value that neuralforecast starts from.

neuralforecast puts a linear layer without activation in front of the first rectified one. Two linear maps in a row are one,
so both are stored as their product, computed in float64.
"""

import pathlib

import torch
from neuralforecast.losses.pytorch import MQLoss
from neuralforecast.models import NBEATS
from safetensors.torch import save_file

CONTEXT, HORIZON, WIDTH = 18, 6, 16
CASES = {
    "generic": dict(stack_types=["identity"], n_blocks=[2]),
    "trend": dict(stack_types=["trend"], n_blocks=[2], n_basis=2),
    "seasonality": dict(stack_types=["seasonality"], n_blocks=[2], n_harmonics=1),
    "all": dict(stack_types=["trend", "seasonality", "identity"], n_blocks=[2, 2, 1], n_basis=3, n_harmonics=2),
    "shared": dict(stack_types=["trend", "seasonality"], n_blocks=[3, 2], shared_weights=True),
}


def stored(model, case):
    """Weights by this project's names."""
    tensors, at = {}, 0
    for stack, blocks in enumerate(case["n_blocks"]):
        for block in range(blocks):
            linear = [layer for layer in model.blocks[at].layers if isinstance(layer, torch.nn.Linear)]
            at += 1
            if case.get("shared_weights") and block > 0:
                continue
            first, second = linear[0], linear[1]
            weight = second.weight.double() @ first.weight.double()
            bias = second.weight.double() @ first.bias.double() + second.bias.double()
            layers = [(weight.float(), bias.float())] + [(layer.weight, layer.bias) for layer in linear[2:]]
            for index, (weight, bias) in enumerate(layers):
                name = f"stacks.{stack}.blocks.{block}.layers.{index}"
                tensors[f"{name}.weight"] = weight.detach().clone()
                tensors[f"{name}.bias"] = bias.detach().clone()
    return tensors


def main():
    torch.manual_seed(7)
    tensors = {}
    for name, case in CASES.items():
        loss = MQLoss(level=[90])
        model = NBEATS(h=HORIZON, input_size=CONTEXT, mlp_units=2 * [[WIDTH, WIDTH]], loss=loss, random_seed=7, **case)
        model.eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.mul_(2.0)
            inputs = torch.randn(5, CONTEXT)
            batch = dict(insample_y=inputs[:, :, None], insample_mask=torch.ones(5, CONTEXT, 1))
            try:
                outputs = model(batch)
            except (IndexError, RuntimeError):
                batch = dict(insample_y=inputs, insample_mask=torch.ones(5, CONTEXT))
                outputs = model(batch)
            outputs = outputs.reshape(5, HORIZON, 3) - inputs[:, -1:, None]
        tensors |= {f"{name}/{key}": value for key, value in stored(model, case).items()}
        tensors[f"{name}/inputs"] = inputs.flip(dims=(-1,)).contiguous()
        tensors[f"{name}/outputs"] = outputs.contiguous()
    save_file(tensors, pathlib.Path(__file__).parent / "golden.safetensors")


if __name__ == "__main__":
    main()
