"""How good speech sounds without an original to compare with: mean opinion scores as networks guess them, 1 to 5.

    DNSMOS   trained on listeners' scores of noise suppression (Reddy et al. 2022, P.835 overall); package speechmos
    UTMOS    trained on listeners' scores of synthetic speech (Saeki et al. 2022, VoiceMOS Challenge); a TorchScript
             file such as `utmos_scripted.pt` of UTMOS-PyTorch, which needs no package of its own

Shapes: S samples at 16 kHz.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hocket.errors import InputError
from hocket.evaluation.judges import RATE, Heard, judge_dnsmos

LEAST_SECONDS = 0.4
Quality = Callable[[np.ndarray], float | None]
"""A score of a waveform; None where there is too little to go by."""


def open_dnsmos() -> Quality:
    """Raises ImportError where speechmos is not installed."""
    judge = judge_dnsmos()
    return lambda wav_S: None if _is_little(wav_S) else judge(Heard(wav_S, wav_S))["dnsmos"]


def open_utmos(file: str | Path, device: str = "cpu") -> Quality:
    """A scripted model that takes `[1, S]` at 16 kHz and gives one number. Raises InputError where it is none."""
    if not Path(file).is_file():
        raise InputError(f'there is no file "{file}" of UTMOS: give it as TorchScript')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = torch.jit.load(str(file), map_location=device).eval()
    except RuntimeError as error:
        raise InputError(f'"{file}" is no TorchScript file: give UTMOS as one (utmos_scripted.pt)') from error

    @torch.inference_mode()
    def judge(wav_S: np.ndarray) -> float | None:
        if _is_little(wav_S):
            return None
        return float(model(torch.from_numpy(wav_S)[None].to(device)).reshape(-1).mean())

    return judge


def _is_little(wav_S: np.ndarray) -> bool:
    return len(wav_S) < LEAST_SECONDS * RATE
