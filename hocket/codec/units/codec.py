"""Semantic units as a codec: features of speech, each replaced by the number of its nearest centroid.

One level of as many entries as there are clusters (HuBERT units: Hsu et al., 2021; Lakhotia et al., 2021). A folder of
units is whole: it holds the centroids, the extractor's own files up to the layer that is used (for HuBERT base at
layer 6 about 210 MB) and, where one is attached, the vocoder's, so that nothing needs a download to apply them.

    config.json              kind, extractor (and how many of its frames make one), vocoder, identity
    centroids.safetensors    float32 [E, D], and [D] that features are divided by
    extractor/               as transformers or CTranslate2 store it; nothing for MFCC
    vocoder/                 as transformers stores it

Units of MFCC stream bit for bit, since a frame depends on four frames on each side; the networks attend to the whole
recording, so their units do not stream.

Shapes: C channels, S samples, T frames, K levels, D feature width, E entries.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hocket.codec.base import Codec, Codes
from hocket.codec.identity import CodecIdentity, check_weight_hash
from hocket.codec.streaming import StreamDecoder, StreamEncoder
from hocket.codec.units.clusters import FitReport, fit_centroids, nearest
from hocket.codec.units.extractor import Extractor, open_extractor
from hocket.codec.units.mfcc import Mfcc
from hocket.codec.units.mfcc_stream import MfccUnitStream
from hocket.codec.units.pooled import Pooled, pooled
from hocket.codec.units.vocoder import UnitVocoder
from hocket.errors import InputError

KIND = "units"
CENTROIDS = "centroids.safetensors"


class UnitNet(torch.nn.Module):
    """All that computes: extractor, centroids, vocoder."""

    scale_D: torch.Tensor

    def __init__(
        self, extractor: Extractor, centroids_ED: torch.Tensor, scale_D: torch.Tensor, vocoder: UnitVocoder | None
    ):
        super().__init__()
        self.extractor, self.vocoder = extractor, vocoder
        self.centroids_ED = torch.nn.Parameter(centroids_ED.float(), requires_grad=False)
        self.register_buffer("scale_D", scale_D.float())

    def units(self, features_TD: torch.Tensor) -> torch.Tensor:
        return nearest(features_TD / self.scale_D, self.centroids_ED)


class UnitCodec(Codec):
    """Units of an extractor; decodes where it has a vocoder."""

    net: UnitNet
    no_stream = "its extractor looks at the whole recording, or its frames are means of several"

    def __init__(
        self,
        extractor: Extractor,
        centroids_ED: torch.Tensor,
        name: str = "units",
        revision: str = "local",
        vocoder: UnitVocoder | None = None,
        scale_D: torch.Tensor | None = None,
    ):
        """`centroids_ED` are of features divided by `scale_D`, which is ones unless given."""
        scale_D = torch.ones(extractor.width) if scale_D is None else scale_D
        if centroids_ED.ndim != 2 or centroids_ED.shape[1] != extractor.width:
            shape = list(centroids_ED.shape)
            raise InputError(f"centroids {shape} do not fit features of width {extractor.width} of {extractor.kind}")
        self.net = UnitNet(extractor, centroids_ED, scale_D, vocoder).eval()
        self.identity = describe(extractor, centroids_ED, scale_D, name, revision)
        if vocoder:
            check_vocoder(vocoder, self.identity)

    @classmethod
    def fit(
        cls,
        extractor: Extractor,
        clips: Iterable[tuple[torch.Tensor, int]],
        clusters: int,
        name: str = "units",
        seed: int = 0,
        max_frames: int = 200_000,
        scaled: bool | None = None,
    ) -> tuple["UnitCodec", FitReport]:
        """Units whose centroids are fitted to waveforms, each given with its rate (Hz); see `fit_centroids`.

        Features are `scaled` as is best for the extractor (Whisper's are), unless one says.
        """
        scaled = extractor.scaled if scaled is None else scaled
        centroids_ED, scale_D, found = fit_centroids(extractor, clips, clusters, seed, max_frames, scaled)
        return cls(extractor, centroids_ED, name, scale_D=scale_D), found

    def with_vocoder(self, vocoder: UnitVocoder) -> "UnitCodec":
        """The same units, now with a `decode`. InputError where the vocoder has other units or another rate."""
        own = self.identity
        net = self.net
        return UnitCodec(net.extractor, net.centroids_ED.data, own.name, own.revision, vocoder, net.scale_D)

    @property
    def streams_encoding(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return isinstance(self.net.extractor, Mfcc)

    @property
    def can_decode(self) -> bool:
        return self.net.vocoder is not None

    @property
    def codebooks(self) -> list[torch.Tensor]:
        return [self.net.centroids_ED.data]

    def decode(self, codes: Codes) -> torch.Tensor:
        if not self.can_decode:
            raise InputError(no_vocoder(self.identity.name))
        return super().decode(codes)

    def stream_encoder(self) -> StreamEncoder:
        if not isinstance(self.net.extractor, Mfcc):
            return super().stream_encoder()
        return MfccUnitStream(self.net.extractor, self.net.units, self.identity)

    def stream_decoder(self) -> StreamDecoder:
        reason = "its vocoder looks at frames on both sides" if self.can_decode else "it has no vocoder"
        raise InputError(f'codec "{self.identity.name}" cannot stream: {reason}')

    def _encode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        """One by one: a stack of equal lengths could round differently."""
        return [self.net.units(self.net.extractor.features(wav_CS[0]))[:, None] for wav_CS in items]

    def _decode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        vocoder = self.net.vocoder
        assert vocoder is not None
        return [vocoder(codes_TK[:, 0])[None] for codes_TK in items]

    def save(self, folder: str | Path) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"centroids": self.net.centroids_ED.data, "scale": self.net.scale_D}
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / CENTROIDS)
        extractor, vocoder = self.net.extractor, self.net.vocoder
        extractor.save(folder / "extractor")
        voice = None
        if vocoder:
            vocoder.save(folder / "vocoder")
            voice = {"speaker": vocoder.speaker, "language": vocoder.language, "weight_hash": vocoder.weight_hash}
        settings = {
            "kind": KIND,
            "extractor": {"kind": extractor.kind, "layer": extractor.layer, "every": every_of(extractor)},
            "vocoder": voice,
            "identity": self.identity.to_dict(),
        }
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def every_of(extractor: Extractor) -> int:
    """How many frames of the network or of MFCC make one of the units."""
    return extractor.every if isinstance(extractor, Pooled) else 1


def describe(
    extractor: Extractor, centroids_ED: torch.Tensor, scale_D: torch.Tensor, name: str, revision: str
) -> CodecIdentity:
    digest = hashlib.sha256(extractor.weight_hash.encode())
    for tensor in (centroids_ED, scale_D):
        digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
    return CodecIdentity(
        name=name,
        revision=revision,
        weight_hash=digest.hexdigest(),
        sample_rate=extractor.sample_rate,
        hop=extractor.hop,
        codebook_sizes=(len(centroids_ED),),
        semantic_level=0,
        delay=extractor.delay,
    )


def check_vocoder(vocoder: UnitVocoder, identity: CodecIdentity) -> None:
    theirs = (vocoder.n_units, vocoder.sample_rate, vocoder.hop)
    own = (identity.codebook_sizes[0], identity.sample_rate, identity.hop)
    if theirs != own:
        raise InputError(
            f"the vocoder speaks {theirs[0]} units at {theirs[1]} Hz, {theirs[2]} samples each; "
            f'codec "{identity.name}" has {own[0]} units at {own[1]} Hz, {own[2]} samples each'
        )


def no_vocoder(name: str) -> str:
    return f'codec "{name}" gives units and has no vocoder, so it cannot decode; attach one by with_vocoder'


def open_folder(folder: Path, settings: dict[str, Any], levels: int | None) -> Codec:
    """What `save` wrote, whole and unchanged, or InputError."""
    try:
        chosen, voice, identity = settings["extractor"], settings["vocoder"], settings["identity"]
        name, revision, stated = identity["name"], identity["revision"], identity["weight_hash"]
        kind, layer, every = chosen["kind"], chosen["layer"], int(chosen.get("every", 1))
        tensors = load_file(folder / CENTROIDS)
        centroids_ED, scale_D = tensors["centroids"], tensors["scale"]
    except (KeyError, TypeError, OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'the units in folder "{folder}" are damaged, their files do not fit: {reason}') from error
    extractor = pooled(open_extractor(kind, None if kind == "mfcc" else folder / "extractor", layer), every)
    codec = UnitCodec(extractor, centroids_ED, name, revision, scale_D=scale_D)
    check_weight_hash(folder, codec.identity, stated)
    codec.identity = codec.identity.with_levels(1 if levels is None else levels)
    return codec if voice is None else codec.with_vocoder(open_vocoder(folder, voice))


def open_vocoder(folder: Path, voice: dict[str, Any]) -> UnitVocoder:
    vocoder = UnitVocoder.open(folder / "vocoder", voice["speaker"], voice["language"])
    if vocoder.weight_hash != voice["weight_hash"]:
        raise InputError(f'the vocoder in folder "{folder}" is damaged: its weights are not those described')
    return vocoder
