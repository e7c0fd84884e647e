"""Chronos-2 against its reference implementation in PyTorch, on the same cores, in one run.

    python -m venv env && env/bin/pip install torch chronos-forecasting
    cargo bench --bench chronos2 --no-run          # prints the path of the program
    env/bin/python models/benches/reference.py PROGRAM [FILTER [SECONDS]]

Both have random weights of the published shape and as many threads as THREADS says, two by default. On a machine that
does other work, one thread is fair: the reference's threads wait for each other by spinning. Runs alternate, so that whatever else the machine does
falls on both; a ratio above 1 says how many times as fast kronos is. The best run and the median of paired runs are
printed, on the clock and in processor time. Numbers only: the values of the weights change no time.
"""

import os
import statistics
import subprocess
import sys
import time

import torch
from chronos.chronos2.config import Chronos2CoreConfig
from chronos.chronos2.model import Chronos2Model

THREADS = int(os.environ.get("THREADS", "2"))
LEVELS = [0.01] + [round(0.05 * twentieth, 2) for twentieth in range(1, 20)] + [0.99]
POINTS = [(c, h, n) for c in (512, 2048) for h in (24, 64) for n in (1, 8, 32)]


def reference():
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    config = Chronos2CoreConfig(
        d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12, dropout_rate=0.0,
        chronos_config=dict(
            context_length=8192, input_patch_size=16, input_patch_stride=16, output_patch_size=16,
            max_output_patches=64, quantiles=LEVELS, use_arcsinh=True, use_reg_token=True,
        ),
    )
    return Chronos2Model(config).eval()


def once(work):
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def main():
    program, name_filter = sys.argv[1], (sys.argv[2:] or [""])[0]
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 20.0
    model = reference()
    environment = dict(os.environ, RAYON_NUM_THREADS=str(THREADS), KRONOS_BENCH="points")
    ours = subprocess.Popen([program, "--bench"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            env=environment)

    def kronos(context, horizon, series):
        print(context, horizon, series, file=ours.stdin, flush=True)
        return tuple(float(word) for word in ours.stdout.readline().split())

    print(f"torch {torch.__version__}, {sum(p.numel() for p in model.parameters())} parameters, {THREADS} threads")
    print("best of the runs, ms per series, and times as fast")
    print(f"{'context-horizon-series':>24}  {'torch':>8} {'kronos':>8} {'ratio':>6}  processor: {'torch':>8} {'kronos':>8}"
          f" {'ratio':>6}  median of pairs: clock, processor; runs")
    for context, horizon, series in POINTS:
        name = f"{context}-{horizon}-{series}"
        if name_filter not in name + "$":
            continue
        history = torch.rand(series, context)

        def torch_once():
            with torch.inference_mode():
                model(context=history, num_output_patches=-(-horizon // 16))

        torch_once(), kronos(context, horizon, series)
        pairs, began = [], time.perf_counter()
        while len(pairs) < 3 or time.perf_counter() - began < seconds:
            pairs.append((once(torch_once), kronos(context, horizon, series)))
        best = [[1e3 * min(pair[who][what] for pair in pairs) / series for who in (0, 1)] for what in (0, 1)]
        median = [statistics.median(pair[0][what] / pair[1][what] for pair in pairs) for what in (0, 1)]
        (clock_torch, clock_ours), (processor_torch, processor_ours) = best
        print(f"{name:>24}  {clock_torch:8.2f} {clock_ours:8.2f} {clock_torch / clock_ours:6.2f}             "
              f"{processor_torch:8.2f} {processor_ours:8.2f} {processor_torch / processor_ours:6.2f}"
              f"  {median[0]:.2f}, {median[1]:.2f}; {len(pairs)}", flush=True)
    ours.stdin.close()
    ours.wait()


if __name__ == "__main__":
    main()
