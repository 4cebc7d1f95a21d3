"""The loss of a pack over a merged vocabulary, forward and backward: time, and memory at the peak.

4,096 steps of text to speech with a parallel head: 512 steps of text (32,000 ids) and 3,584 steps of audio in 8 rows of
2,048 codes, the leader with its end; width 512. Four ways:

    full        the logits of all steps over the whole vocabulary, then log_softmax; once for all rows of a step
    interval    for each legal set its logits, then cross_entropy
    torch       for each legal set `torch.nn.functional.linear_cross_entropy` in chunks (torch >= 2.13)
    hocket      `cells_cross_entropy`

Time is that of the processor, one thread, so that other work on the machine counts less. Memory is the growth of the
resident set from before the forward to its peak, in a process of its own for each; it includes the gradients that all
must make (weights 99 MB and states 8 MB in float32).
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import heading, interleaved
from hocket.model.heads import HEAD_STD, LegalSet
from hocket.model.losses import cells_cross_entropy

STEPS, TEXT_STEPS, WIDTH = 4096, 512, 512
TEXT, SPECIALS, CODES, ROWS = 32_000, 64, 2048, 8
AUDIO = TEXT + SPECIALS
IDS = AUDIO + ROWS * CODES
SETS = [
    LegalSet("", ()),
    LegalSet("text", ((0, TEXT),)),
    LegalSet("audio.0", ((TEXT, TEXT + 1), (AUDIO, AUDIO + CODES))),
    *(LegalSet(f"audio.{k}", ((AUDIO + k * CODES, AUDIO + (k + 1) * CODES),)) for k in range(1, ROWS)),
]


class Pack:
    """States, output matrix and cells, and the ways to their loss."""

    def __init__(self, dtype: torch.dtype):
        torch.manual_seed(0)
        self.x_ND = torch.randn(STEPS, WIDTH, dtype=dtype, requires_grad=True)
        self.weight_VD = (torch.randn(IDS, WIDTH) * HEAD_STD * WIDTH**-0.5).to(dtype).requires_grad_()
        self.legal_NR = torch.zeros(STEPS, ROWS, dtype=torch.long)
        self.legal_NR[:TEXT_STEPS, 0] = 1
        self.legal_NR[TEXT_STEPS:] = torch.arange(2, 2 + ROWS)
        self.target_NR = torch.zeros(STEPS, ROWS, dtype=torch.long)
        self.target_NR[:TEXT_STEPS, 0] = torch.randint(TEXT, (TEXT_STEPS,))
        starts = AUDIO + CODES * torch.arange(ROWS)
        self.target_NR[TEXT_STEPS:] = starts + torch.randint(CODES, (STEPS - TEXT_STEPS, ROWS))
        self.cell_weight_NR = (self.legal_NR > 0).float()

    def full(self) -> Tensor:
        logp_NV = F.log_softmax(F.linear(self.x_ND, self.weight_VD).float(), dim=-1)
        return -(logp_NV.gather(1, self.target_NR) * self.cell_weight_NR).sum()

    def interval(self) -> Tensor:
        def of_set(x_MD: Tensor, target_M: Tensor, legal: LegalSet) -> Tensor:
            return F.cross_entropy(legal.logits(x_MD, self.weight_VD), target_M, reduction="none")

        return self._set_by_set(of_set)

    def torch(self) -> Tensor:
        def of_set(x_MD: Tensor, target_M: Tensor, legal: LegalSet) -> Tensor:
            rows_JD = torch.cat([self.weight_VD[a:b] for a, b in legal.ranges])
            options = torch.nn.LinearCrossEntropyOptions()
            return F.linear_cross_entropy(x_MD, rows_JD, target_M, reduction="none", options=options)

        return self._set_by_set(of_set)

    def hocket(self) -> Tensor:
        ranges_S = [legal.ranges for legal in SETS]
        return cells_cross_entropy(
            self.x_ND, self.weight_VD, self.target_NR, self.legal_NR, self.cell_weight_NR, ranges_S
        ).total

    def _set_by_set(self, loss: Callable[[Tensor, Tensor, LegalSet], Tensor]) -> Tensor:
        total = self.x_ND.new_zeros((), dtype=torch.float32)
        for index in self.legal_NR.unique().tolist():
            step, row = (self.legal_NR == index).nonzero(as_tuple=True)
            if index:
                ce_M = loss(self.x_ND[step], SETS[index].position(self.target_NR[step, row]), SETS[index])
                total = total + (ce_M * self.cell_weight_NR[step, row]).sum()
        return total

    def train(self, way: str) -> None:
        """Loss and gradients, scaled as an engine does."""
        self.x_ND.grad = self.weight_VD.grad = None
        (getattr(self, way)() / STEPS).backward()


def ways() -> list[str]:
    newer = hasattr(F, "linear_cross_entropy") and hasattr(torch.nn, "LinearCrossEntropyOptions")
    return ["full", "interval", *(["torch"] if newer else []), "hocket"]


def peak_of(way: str, dtype: str) -> float:
    """Growth of the resident set in MB, measured in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.loss", way, dtype]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_peak(way: str, dtype: str) -> None:
    """Prints the growth in MB; Linux only, where the peak can be reset."""
    torch.set_num_threads(1)
    pack = Pack(getattr(torch, dtype))
    (pack.x_ND[:8] @ pack.weight_VD[:8].T).sum().backward()
    pack.x_ND.grad = pack.weight_VD.grad = None
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    pack.train(way)
    print(_status("VmHWM") - before)


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / 1e6


def main(dtypes: Sequence[str] = ("bfloat16", "float32"), rounds: int = 3) -> None:
    torch.set_num_threads(1)
    for dtype in dtypes:
        pack = Pack(getattr(torch, dtype))
        seconds = interleaved({way: partial(pack.train, way) for way in ways()}, rounds, time.process_time)
        peaks = {way: peak_of(way, dtype) for way in ways()}
        print(heading(f"loss, {STEPS:,} steps, {IDS:,} ids, width {WIDTH}, {dtype}, forward + backward"))
        for way in ways():
            print(f"  {way:<10}{seconds[way]:8.2f} s{peaks[way]:10.0f} MB")
        saved, share = peaks["full"] / peaks["hocket"], seconds["hocket"] / seconds["interval"]
        print(f"  memory of full / hocket {saved:.1f}, aim 8; time of hocket / interval {share:.2f}, aim 1.05\n")


if __name__ == "__main__":
    measure_peak(*sys.argv[1:])
