"""The networks of training.rs in PyTorch, written as its users write them: fused attention, fused RMS norm, AdamW.

Prints windows per second of processor time in the same lines. Needs PyTorch; no test does."""

import math
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
torch.manual_seed(1)


def rotation(length, dim):
    frequency = 1.0 / 10000 ** (torch.arange(0, dim, 2) / dim)
    angle = torch.outer(torch.arange(length), frequency)
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


def rotate(x, table):
    a, b = x.chunk(2, -1)
    return x * table[0] + torch.cat([-b, a], -1) * table[1]


class Block(nn.Module):
    def __init__(self, d, heads, ff):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(d, 1e-5), nn.RMSNorm(d, 1e-5)
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))
        self.w1, self.w3 = nn.Linear(d, ff, False), nn.Linear(d, ff, False)
        self.w2 = nn.Linear(ff, d, False)

    def forward(self, x, table):
        b, t, d = x.shape
        n = self.norm1(x)
        split = lambda y: y.view(b, t, self.heads, -1).transpose(1, 2)
        q, k = rotate(split(self.q(n)), table), rotate(split(self.k(n)), table)
        y = F.scaled_dot_product_attention(q, k, split(self.v(n)), is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, d))
        n = self.norm2(x)
        return x + self.w2(F.silu(self.w1(n)) * self.w3(n))


class Tokenizer(nn.Module):
    def __init__(self, d=64, heads=4, ff=128, blocks=2, bits=16, length=144):
        super().__init__()
        self.embed, self.head = nn.Linear(6, d), nn.Linear(d, 6)
        self.encoder = nn.ModuleList(Block(d, heads, ff) for _ in range(blocks))
        self.decoder = nn.ModuleList(Block(d, heads, ff) for _ in range(blocks))
        self.quant, self.post, self.pre = nn.Linear(d, bits), nn.Linear(bits, d), nn.Linear(bits // 2, d)
        self.table, self.bits = rotation(length, d // heads), bits

    def decode(self, x):
        for block in self.decoder:
            x = block(x, self.table)
        return self.head(x)

    def forward(self, x):
        h = self.embed(x)
        for block in self.encoder:
            h = block(h, self.table)
        u = F.normalize(self.quant(h), dim=-1)
        code = (u + (torch.sign(u) - u).detach()) / math.sqrt(self.bits)
        coarse, full = self.decode(self.pre(code[..., : self.bits // 2])), self.decode(self.post(code))
        commit = ((code.detach() - u) ** 2).sum(-1).mean()
        p = torch.sigmoid(-4 * u / math.sqrt(self.bits))
        entropy = lambda p: -(p * (p + 1e-8).log() + (1 - p) * (1 - p + 1e-8).log()).sum(-1)
        quantiser = 0.05 * commit + 0.05 * (entropy(p).mean() - 1.1 * entropy(p.mean((0, 1))))
        return (F.mse_loss(coarse, x) + F.mse_loss(full, x) + quantiser) / 2


class Predictor(nn.Module):
    def __init__(self, d, heads, ff, blocks, vocabulary=256, length=143):
        super().__init__()
        self.d = d
        self.s1, self.s2 = nn.Embedding(vocabulary, d), nn.Embedding(vocabulary, d)
        self.fusion = nn.Linear(2 * d, d)
        self.time = nn.ModuleList(nn.Embedding(n, d) for n in (60, 24, 7, 32, 13))
        self.blocks = nn.ModuleList(Block(d, heads, ff) for _ in range(blocks))
        self.norm, self.dep_norm = nn.RMSNorm(d, 1e-5), nn.RMSNorm(d, 1e-5)
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))
        self.head1, self.head2 = nn.Linear(d, vocabulary), nn.Linear(d, vocabulary)
        self.table = rotation(length, d // heads)

    def forward(self, s1, s2, stamps):
        x = self.fusion(torch.cat([self.s1(s1[:, :-1]), self.s2(s2[:, :-1])], -1) * math.sqrt(self.d))
        x = x + sum(table(stamps[..., i]) for i, table in enumerate(self.time))
        for block in self.blocks:
            x = block(x, self.table)
        h = self.norm(x)
        b, t, d = h.shape
        split = lambda y: y.view(b, t, 4, -1).transpose(1, 2)
        y = F.scaled_dot_product_attention(
            split(self.q(self.s1(s1[:, 1:]))), split(self.k(h)), split(self.v(h)), is_causal=True
        )
        y = self.dep_norm(h + self.o(y.transpose(1, 2).reshape(b, t, d)))
        one = F.cross_entropy(self.head1(h).flatten(0, 1), s1[:, 1:].flatten())
        return (one + F.cross_entropy(self.head2(y).flatten(0, 1), s2[:, 1:].flatten())) / 2


class T5Norm(nn.RMSNorm):
    def __init__(self, d):
        super().__init__(d, 1e-6)


class ResidualBlock(nn.Module):
    def __init__(self, i, h, o):
        super().__init__()
        self.hidden, self.output, self.residual = nn.Linear(i, h), nn.Linear(h, o), nn.Linear(i, o)

    def forward(self, x):
        return self.output(F.relu(self.hidden(x))) + self.residual(x)


class Chronos(nn.Module):
    """Every series alone in its group: the second attention is the value and output maps."""

    def __init__(self, d=128, heads=4, ff=256, blocks=3, patch=16, levels=21, patches=2, tokens=19):
        super().__init__()
        self.heads, self.patch, self.patches = heads, patch, patches
        self.embed, self.out = ResidualBlock(3 * patch, ff, d), ResidualBlock(d, ff, levels * patch)
        self.separator = nn.Parameter(torch.randn(1, 1, d))
        linear = lambda i, o: nn.Linear(i, o, False)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({
                "n0": T5Norm(d), "q": linear(d, d), "k": linear(d, d), "v": linear(d, d), "o": linear(d, d),
                "n1": T5Norm(d), "gv": linear(d, d), "go": linear(d, d),
                "n2": T5Norm(d), "wi": linear(d, ff), "wo": linear(ff, d),
            })
            for _ in range(blocks)
        )
        self.norm = T5Norm(d)
        self.table = rotation(tokens, d // heads)
        self.levels = torch.arange(1, levels + 1) / (levels + 1)

    def forward(self, context, future, target):
        x = self.embed(torch.cat([context, future], 1))
        n = context.shape[1]
        x = torch.cat([x[:, :n], self.separator.expand(x.shape[0], 1, -1), x[:, n:]], 1)
        b, t, d = x.shape
        for m in self.blocks:
            y = m["n0"](x)
            split = lambda y: y.view(b, t, self.heads, -1).transpose(1, 2)
            q, k = rotate(split(m["q"](y)), self.table), rotate(split(m["k"](y)), self.table)
            y = F.scaled_dot_product_attention(q, k, split(m["v"](y)), scale=1.0)
            x = x + m["o"](y.transpose(1, 2).reshape(b, t, d))
            x = x + m["go"](m["gv"](m["n1"](x)))
            x = x + m["wo"](F.relu(m["wi"](m["n2"](x))))
        q = self.out(self.norm(x[:, -self.patches :])).view(b, self.patches, -1, self.patch)
        error = target.view(b, self.patches, 1, self.patch) - q
        return (2 * (error * self.levels.view(1, 1, -1, 1) + F.relu(-error))).sum(2).mean()


def measure(name, windows, model, *inputs):
    adam = torch.optim.AdamW(model.parameters(), 1e-4)

    def step():
        adam.zero_grad()
        model(*inputs).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()

    for _ in range(3):
        step()
    start, steps = time.process_time(), 0
    while time.process_time() - start < 5:
        step()
        steps += 1
    seconds = time.process_time() - start
    print(f"{name}: {steps * windows / seconds:.1f} windows per second of processor time", flush=True)


measure("tokenizer", 24, Tokenizer(), torch.rand(24, 144, 6) * 4 - 2)
tokens = lambda: torch.randint(0, 256, (24, 144))
stamps = torch.tensor([0, 0, 1, 2, 3]).expand(24, 143, 5)
measure("predictor", 24, Predictor(96, 4, 192, 3), tokens(), tokens(), stamps)
measure("predictor of 256", 24, Predictor(256, 4, 512, 4), tokens(), tokens(), stamps)
measure("chronos2", 64, Chronos(), torch.rand(64, 16, 48), torch.rand(64, 2, 48), torch.rand(64, 32))
