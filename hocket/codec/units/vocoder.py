"""A unit vocoder: the code HiFi-GAN of SeamlessM4T (Seamless, 2023; after Polyak et al., 2021), version 1 or 2.

transformers' class predicts a duration for every unit and repeats it before the waveform is made, so its output has
another length than its input; it also takes unit `t2u_pad_token_id` for padding. Neither happens here: units that were
not deduplicated are one frame each, and n frames give exactly n * hop samples. For deduplicated units
`predict_durations` asks the class's predictor, and `repeat` makes frames of them.

Speaker and language are rows of the network's tables; there is no default.

Shapes: T frames, N runs of units, S samples, D width.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.models.seamless_m4t.modeling_seamless_m4t import SeamlessM4TCodeHifiGan
from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import SeamlessM4Tv2CodeHifiGan

from hocket.codec.adapters.transformers_codec import hash_weights, load_network, save_network
from hocket.codec.loading import find_folder
from hocket.errors import InputError

NETWORKS: dict[str, type[PreTrainedModel]] = {
    "seamless_m4t": SeamlessM4TCodeHifiGan,
    "seamless_m4t_v2": SeamlessM4Tv2CodeHifiGan,
}
VOCODER_KEYS = {r"^vocoder\.": ""}
"""In the weights of a whole SeamlessM4T its vocoder's names have this prefix."""


class UnitVocoder(torch.nn.Module):
    """Units at a fixed rate to a waveform, in one voice and language."""

    def __init__(self, net: PreTrainedModel, speaker: int, language: int):
        super().__init__()
        self.net: Any = net.eval().requires_grad_(False)
        self.speaker, self.language = speaker, language
        config = self.net.config
        self.sample_rate, self.n_units = config.sampling_rate, config.unit_hifi_gan_vocab_size
        self.hop = math.prod(config.upsample_rates)
        for name, value, n_rows in (
            ("speaker", speaker, config.vocoder_num_spkrs),
            ("language", language, config.vocoder_num_langs),
        ):
            if not 0 <= value < n_rows:
                raise InputError(f"this vocoder has {name} ids 0 to {n_rows - 1}, not {value}")
        if int(self.net._get_output_hifigan_lengths(torch.tensor(2))) != 2 * self.hop:
            raise InputError(f"this vocoder's upsampling does not give a whole {self.hop} samples a frame")

    @classmethod
    def open(cls, folder: str | Path, speaker: int, language: int) -> "UnitVocoder":
        """From the folder or hub name of a code HiFi-GAN, or of a whole SeamlessM4T, whose other parts stay unread."""
        folder = find_folder(str(folder))
        file = folder / "config.json"
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type") if file.is_file() else None
        if kind not in NETWORKS:
            raise InputError(f'folder "{folder}" holds no vocoder of SeamlessM4T: its model_type is {json.dumps(kind)}')
        return cls(load_network(NETWORKS[kind], folder, key_mapping=VOCODER_KEYS), speaker, language)

    def forward(self, units_T: torch.Tensor) -> torch.Tensor:
        """The waveform [T * hop] of units [T], one a frame."""
        n_frames = len(units_T)
        if not n_frames:
            return torch.zeros(0, device=units_T.device)
        units_TD = self.net.unit_embedding(units_T)
        speaker_TD = self.net.speaker_embedding.weight[self.speaker].expand(n_frames, -1)
        language_TD = self.net.language_embedding.weight[self.language].expand(n_frames, -1)
        inputs_TD = torch.cat([language_TD, units_TD, speaker_TD], dim=1)
        return self.net.hifi_gan(inputs_TD.T[None])[0]

    @torch.no_grad()
    def predict_durations(self, units_N: torch.Tensor) -> torch.Tensor:
        """Frames, at least 1, of each of these units, of which no neighbours are equal; int64 [N]."""
        log_durations_BN = self.net.dur_predictor(self.net.unit_embedding(units_N)[None])
        return log_durations_BN[0].expm1().round().long().clamp(min=1)

    @property
    def weight_hash(self) -> str:
        return hash_weights(self.net)

    def save(self, folder: Path) -> None:
        save_network(self.net, folder)
