"""SoundStream as Lyra V2 published it: a pretrained residual codec for speech, three TFLite files run by LiteRT.

    16 kHz wav, 320 samples -> soundstream_encoder -> 64 numbers -> quantizer -> 46 codes of 16        9.2 kbit/s
    codes -> sum of their vectors -> lyragan -> 320 samples

Both networks keep their past inside the interpreter, take one frame of 20 ms a call and look no sample ahead. The state
at the start cannot be restored (LiteRT's `reset_all_variables` gives other outputs), so every recording and every
stream gets interpreters of its own, made in about 6 ms each. The codebooks are read out of the quantizer, one vector
at a time; their sum is what it decodes to, bit for bit. On one CPU thread encoding runs at about 200 times real time
and decoding at 130 times.

`packed` writes two neighbouring levels as one code of 256 (`16 * first + second`): 23 levels, the same bits, half the
tokens.

Shapes: C channels, S samples, T codec frames, K levels, E entries of a codebook, D width of the features.
"""

import hashlib
import importlib
import json
import shutil
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from hocket.codec.base import Codec
from hocket.codec.identity import CodecIdentity, check_weight_hash
from hocket.codec.streaming import StreamDecoder, StreamEncoder
from hocket.errors import InputError

KIND = "lyra"
ENCODER, QUANTIZER, DECODER = FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")
COPIED = ("LICENSE", "lyra_config.binarypb")
SAMPLE_RATE, HOP, LEVELS, ENTRIES = 16000, 320, 46, 16


class LyraCodec(Codec):
    """The three networks' file contents, the codebooks, and an identity; `packed` gives 23 levels of 256."""

    streams_encoding = streams_decoding = True

    def __init__(self, folder: Path, files: dict[str, bytes], packed: bool):
        """`files` holds the contents of `FILES`; `folder` is where they come from."""
        self.folder, self.files, self.packed = folder, files, packed
        self.identity = describe(files, packed)
        self.codebooks_KED = read_codebooks(open_network(files[QUANTIZER]))

    @classmethod
    def open(cls, folder: str | Path, packed: bool = False, levels: int | None = None) -> Self:
        """From a folder that holds the three files; InputError where one is missing or LiteRT cannot run it."""
        folder = Path(folder)
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise InputError(f'the codec in folder "{folder}" is not complete: it has no {missing[0]}')
        try:
            codec = cls(folder, {name: (folder / name).read_bytes() for name in FILES}, packed)
            StatefulNetwork(codec.files[ENCODER], HOP)
            StatefulNetwork(codec.files[DECODER], codec.codebooks_KED.shape[2])
        except InputError:
            raise
        except (ValueError, RuntimeError, KeyError) as error:
            raise InputError(f'the codec in folder "{folder}" is damaged: {first_line(error)}') from error
        codec.identity = codec.identity.with_levels(codec.levels if levels is None else levels)
        return codec

    def save(self, folder: str | Path) -> None:
        """Writes the three files, their licence where it is at hand, and a config.json that says whether `packed`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        if folder.resolve() != self.folder.resolve():
            for name in COPIED:
                if (self.folder / name).is_file():
                    shutil.copyfile(self.folder / name, folder / name)
        identity = describe(self.files, self.packed).to_dict()
        settings = {"kind": KIND, "packed": self.packed, "identity": identity}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    @property
    def codebooks(self) -> list[torch.Tensor]:
        """The vectors of each level [entries, 64]; of packed levels the sums of all pairs."""
        if not self.packed:
            return list(self.codebooks_KED[: self.levels])
        first_KED, second_KED = self.codebooks_KED[0::2], self.codebooks_KED[1::2]
        pairs_KEED = first_KED[:, :, None] + second_KED[:, None]
        return list(pairs_KEED.flatten(1, 2)[: self.levels])

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def to(self, device: str | torch.device) -> Self:
        """LiteRT runs these networks on the CPU; InputError for another device."""
        if torch.device(device).type != "cpu":
            raise InputError(f'codec "{self.identity.name}" runs on the CPU only, not on device "{device}"')
        return self

    def stream_encoder(self) -> StreamEncoder:
        return LyraStreamEncoder(self)

    def stream_decoder(self) -> StreamDecoder:
        return LyraStreamDecoder(self)

    def _encode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        """An item of n samples has ceil(n / 320) frames."""
        streams = [LyraStreamEncoder(self) for _ in items]
        return [torch.cat([s.push(wav_CS), s.finish()]) for s, wav_CS in zip(streams, items, strict=True)]

    def _decode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        return [LyraStreamDecoder(self).push(codes_TK)[None] for codes_TK in items]

    def latents(self, codes_TK: torch.Tensor) -> torch.Tensor:
        """What the quantizer decodes any prefix of the levels to, float32 [T, D]: the sum of the codes' vectors."""
        codes_TK = unpack(codes_TK) if self.packed else codes_TK
        latent_TD = torch.zeros(len(codes_TK), self.codebooks_KED.shape[2])
        for codebook_ED, codes_T in zip(self.codebooks_KED, codes_TK.unbind(dim=1), strict=False):
            latent_TD = latent_TD + codebook_ED[codes_T]
        return latent_TD


class LyraStreamEncoder(StreamEncoder):
    """A frame's codes come out as soon as its 320 samples are in."""

    def __init__(self, codec: LyraCodec):
        super().__init__(codec.identity)
        self.packed, self.n_levels = codec.packed, codec.levels * (2 if codec.packed else 1)
        self.network = StatefulNetwork(codec.files[ENCODER], HOP)
        self.interpreter = open_network(codec.files[QUANTIZER])
        self.quantize = self.interpreter.get_signature_runner("encode")
        self.rest_S = torch.zeros(0)

    def _push(self, wav_CS: torch.Tensor) -> torch.Tensor:
        wav_S = torch.cat([self.rest_S, wav_CS[0].cpu()])
        n_frames = len(wav_S) // HOP
        self.rest_S = wav_S[n_frames * HOP :]
        codes_TK = np.zeros((n_frames, self.n_levels), dtype=np.int64)
        for codes_K, frame_S in zip(codes_TK, wav_S[: n_frames * HOP].view(-1, HOP).numpy(), strict=True):
            feature_11D = self.network(frame_S).reshape(1, 1, -1)
            found = self.quantize(input_frames=feature_11D, num_quantizers=np.int32(self.n_levels))
            codes_K[:] = found["output_0"][: self.n_levels, 0, 0]
        tokens_TK = torch.from_numpy(codes_TK)
        return pack(tokens_TK) if self.packed else tokens_TK

    def _finish(self) -> torch.Tensor:
        """A last frame that is not full ends in silence."""
        missing = -len(self.rest_S) % HOP
        return self._push(torch.zeros(1, missing))


class LyraStreamDecoder(StreamDecoder):
    """Each frame gives its 320 samples at once."""

    def __init__(self, codec: LyraCodec):
        super().__init__(codec.identity)
        self.codec = codec
        self.network = StatefulNetwork(codec.files[DECODER], codec.codebooks_KED.shape[2])

    def _push(self, codes_TK: torch.Tensor) -> torch.Tensor:
        wav_TS = [self.network(latent_D) for latent_D in self.codec.latents(codes_TK.cpu()).numpy()]
        return torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *wav_TS]))[None].clamp(-1, 1)

    def _finish(self) -> torch.Tensor:
        return torch.zeros(1, 0)


class StatefulNetwork:
    """One TFLite network at the start of a recording: a frame in, a frame out, its past inside."""

    def __init__(self, content: bytes, n_inputs: int):
        """ValueError where the network takes other than `n_inputs` numbers a frame."""
        self.interpreter = open_network(content)
        self.input, self.output = self.interpreter.get_input_details()[0], self.interpreter.get_output_details()[0]
        if int(np.prod(self.input["shape"])) != n_inputs:
            raise ValueError(f"a network takes {list(self.input['shape'])} numbers a frame, not {n_inputs}")

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        self.interpreter.set_tensor(self.input["index"], frame.reshape(self.input["shape"]))
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output["index"]).reshape(-1)


def open_network(content: bytes) -> Any:
    """A LiteRT interpreter on one thread; InputError where LiteRT is not installed."""
    try:
        litert = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError as error:
        raise InputError(
            "Lyra's SoundStream runs on LiteRT, which is not installed; pip install 'hocket[lyra]'"
        ) from error
    interpreter = litert.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def read_codebooks(quantizer: Any) -> torch.Tensor:
    """The vectors [K, E, D] of the quantizer: each is what its code decodes to with all other levels unused."""
    decode = quantizer.get_signature_runner("decode")
    vectors = []
    for level in range(LEVELS):
        for code in range(ENTRIES):
            codes_K11 = np.full((LEVELS, 1, 1), -1, dtype=np.int32)
            codes_K11[level] = code
            vectors.append(decode(encoding_indices=codes_K11)["output_0"].reshape(-1))
    return torch.from_numpy(np.stack(vectors)).view(LEVELS, ENTRIES, -1)


def pack(codes_TK: torch.Tensor) -> torch.Tensor:
    """Pairs of levels as one: [T, 2 K] codes of 16 to [T, K] codes of 256."""
    return codes_TK[:, 0::2] * ENTRIES + codes_TK[:, 1::2]


def unpack(codes_TK: torch.Tensor) -> torch.Tensor:
    """The inverse of `pack`."""
    return torch.stack([codes_TK // ENTRIES, codes_TK % ENTRIES], dim=-1).flatten(1)


def describe(files: dict[str, bytes], packed: bool) -> CodecIdentity:
    digest = hashlib.sha256()
    for name in FILES:
        digest.update(f"{name} {len(files[name])} ".encode())
        digest.update(files[name])
    return CodecIdentity(
        name="lyra-v2-packed" if packed else "lyra-v2",
        revision="local",
        weight_hash=digest.hexdigest(),
        sample_rate=SAMPLE_RATE,
        hop=HOP,
        codebook_sizes=(ENTRIES * ENTRIES,) * (LEVELS // 2) if packed else (ENTRIES,) * LEVELS,
    )


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def open_folder(folder: Path, settings: dict[str, Any], levels: int | None) -> Codec:
    """`settings` may say `packed`, and the identity that `save` wrote, which then must fit the files."""
    packed = settings.get("packed", False)
    if not isinstance(packed, bool):
        raise InputError(f'"packed" in "{folder / "config.json"}" must be true or false, not {json.dumps(packed)}')
    codec = LyraCodec.open(folder, packed, levels)
    if "identity" in settings:
        stated = settings["identity"]
        check_weight_hash(folder, codec.identity, stated.get("weight_hash") if isinstance(stated, dict) else None)
    return codec
