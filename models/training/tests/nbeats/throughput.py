"""Training windows per second of processor time of the network of models/benches/nbeats.rs with PyTorch, on one thread.

Run in an environment with torch:  python throughput.py [widths]
It does what the benchmark does: normalise the windows, forward, backward, clipping by the global norm, one step of AdamW.
"""

import sys
import time

import torch

CONTEXT, HORIZON, BATCH, BLOCKS, LAYERS = 90, 20, 256, 6, 3
LEVELS = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
MIDDLE = 2
torch.set_num_threads(1)


class Block(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        inputs, outputs = CONTEXT - 1, HORIZON * len(LEVELS)
        sizes = [inputs] + LAYERS * [width]
        self.hidden = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.last = torch.nn.Linear(width, inputs + outputs)
        self.inputs = inputs

    def forward(self, x):
        for layer in self.hidden:
            x = torch.relu(layer(x))
        said = self.last(x)
        return said[:, : self.inputs], said[:, self.inputs :]


class Network(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.blocks = torch.nn.ModuleList(Block(width) for _ in range(BLOCKS))
        deviates = torch.distributions.Normal(0.0, 1.0).icdf(LEVELS)
        gaps = torch.diff(deviates)
        self.register_buffer("shift", torch.log(torch.expm1(torch.cat([gaps[:MIDDLE], torch.ones(1), gaps[MIDDLE:]]))))

    def forward(self, x):
        forecast = 0
        for block in self.blocks:
            back, ahead = block(x)
            x, forecast = x - back, forecast + ahead
        raw = forecast.view(len(x), HORIZON, len(LEVELS))
        gaps = torch.nn.functional.softplus(raw + self.shift)
        middle = raw[..., MIDDLE : MIDDLE + 1]
        below = middle - gaps[..., :MIDDLE].flip(-1).cumsum(-1).flip(-1)
        above = middle + gaps[..., MIDDLE + 1 :].cumsum(-1)
        return torch.cat([below, middle, above], -1)


def measure(width):
    torch.manual_seed(1)
    prices = torch.exp(torch.cumsum(0.04 * (torch.rand(4000, dtype=torch.float64) - 0.5), 0))
    network = Network(width)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    cuts = 90 + 14 * torch.arange(BATCH)
    growth = torch.arange(1, HORIZON + 1).sqrt()

    def step():
        context = torch.log(prices[cuts[:, None] + torch.arange(-CONTEXT, 0)])
        future = torch.log(prices[cuts[:, None] + torch.arange(HORIZON)])
        changes = context.diff(dim=1)
        scale = changes.square().mean(1, keepdim=True).sqrt()
        x = (changes / scale).flip(-1).float()
        y = ((future - context[:, -1:]) / scale).float() / growth
        error = y[..., None] - network(x)
        loss = torch.maximum(LEVELS * error, (LEVELS - 1) * error).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()

    for _ in range(10):
        step()
    times = []
    for _ in range(60):
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    median = sorted(times)[len(times) // 2]
    print(f"width {width}: {BATCH / median:,.0f} windows/s ({1e3 * median:.2f} ms a step)")


for width in [int(argument) for argument in sys.argv[1:]] or [128, 256, 512]:
    measure(width)
