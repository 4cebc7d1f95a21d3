"""The codecs that `load_codec` knows by a short name, and the rates of each without loading it.

The numbers are those of the published weights (their config files and papers, named beside each entry); a loaded codec
states its own. `rates` derives what one compares codecs by.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

CONTEXT = 4096
CLIP_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """A published codec as its source describes it."""

    short: str  # what `load_codec` takes
    hub: str | None  # its name on the Hugging Face hub; None where its files are given as a folder
    family: str  # the class or library that runs it
    source: str  # paper or system
    sample_rate: int  # Hz
    hop: Fraction  # samples a frame
    codebook_sizes: tuple[int, ...]
    streams: bool  # whether its adapter streams
    channels: int = 1

    @property
    def frame_rate(self) -> Fraction:
        return self.sample_rate / self.hop


CATALOGUE: list[CatalogueEntry] = [
    CatalogueEntry(
        short="lyra-v2",
        hub=None,
        family="SoundStream",
        source="Lyra V2, three TFLite files",
        sample_rate=16000,
        hop=Fraction(320),
        codebook_sizes=(16,) * 46,
        streams=True,
    ),
    CatalogueEntry(
        short="encodec-24khz",
        hub="facebook/encodec_24khz",
        family="EncodecModel",
        source="EnCodec (2022), causal",
        sample_rate=24000,
        hop=Fraction(320),
        codebook_sizes=(1024,) * 32,
        streams=True,
    ),
    CatalogueEntry(
        short="encodec-32khz",
        hub="facebook/encodec_32khz",
        family="EncodecModel",
        source="MusicGen's EnCodec (2023)",
        sample_rate=32000,
        hop=Fraction(640),
        codebook_sizes=(2048,) * 4,
        streams=False,
    ),
    CatalogueEntry(
        short="encodec-48khz",
        hub="facebook/encodec_48khz",
        family="EncodecModel",
        source="EnCodec (2022), windows of 1 s every .99 s",
        sample_rate=48000,
        hop=Fraction(47520, 150),
        codebook_sizes=(1024,) * 16,
        streams=False,
        channels=2,
    ),
    CatalogueEntry(
        short="mimi",
        hub="kyutai/mimi",
        family="MimiModel",
        source="Moshi (2024), level 0 semantic",
        sample_rate=24000,
        hop=Fraction(1920),
        codebook_sizes=(2048,) * 32,
        streams=True,
    ),
    CatalogueEntry(
        short="dac-16khz",
        hub="descript/dac_16khz",
        family="DacModel",
        source="Descript Audio Codec (2023)",
        sample_rate=16000,
        hop=Fraction(320),
        codebook_sizes=(1024,) * 12,
        streams=True,
    ),
    CatalogueEntry(
        short="dac-24khz",
        hub="descript/dac_24khz",
        family="DacModel",
        source="Descript Audio Codec (2023)",
        sample_rate=24000,
        hop=Fraction(320),
        codebook_sizes=(1024,) * 32,
        streams=True,
    ),
    CatalogueEntry(
        short="dac-44khz",
        hub="descript/dac_44khz",
        family="DacModel",
        source="Descript Audio Codec (2023)",
        sample_rate=44100,
        hop=Fraction(512),
        codebook_sizes=(1024,) * 9,
        streams=True,
    ),
    CatalogueEntry(
        short="xcodec",
        hub="hf-audio/xcodec-hubert-librispeech",
        family="XcodecModel",
        source="X-Codec (2024), HuBERT, LibriSpeech",
        sample_rate=16000,
        hop=Fraction(320),
        codebook_sizes=(1024,) * 8,
        streams=False,
    ),
    CatalogueEntry(
        short="xcodec-wavlm",
        hub="hf-audio/xcodec-wavlm-more-data",
        family="XcodecModel",
        source="X-Codec (2024), WavLM, MLS and more speech",
        sample_rate=16000,
        hop=Fraction(320),
        codebook_sizes=(1024,) * 8,
        streams=False,
    ),
    CatalogueEntry(
        short="xcodec-general",
        hub="hf-audio/xcodec-hubert-general-balanced",
        family="XcodecModel",
        source="X-Codec (2024), HuBERT, general audio",
        sample_rate=16000,
        hop=Fraction(320),
        codebook_sizes=(1024,) * 8,
        streams=False,
    ),
    CatalogueEntry(
        short="higgs-audio-v2",
        hub="bosonai/higgs-audio-v2-tokenizer",
        family="HiggsAudioV2TokenizerModel",
        source="Higgs Audio v2 (2025)",
        sample_rate=24000,
        hop=Fraction(960),
        codebook_sizes=(1024,) * 8,
        streams=False,
    ),
    CatalogueEntry(
        short="xcodec2",
        hub="HKUSTAudio/xcodec2-hf",
        family="Xcodec2Model",
        source="X-Codec 2 (2025)",
        sample_rate=16000,
        hop=Fraction(320),
        codebook_sizes=(65536,),
        streams=False,
    ),
    CatalogueEntry(
        short="neucodec",
        hub="neuphonic/neucodec",
        family="NeuCodecModel",
        source="NeuCodec (2025), hears 16 kHz",
        sample_rate=24000,
        hop=Fraction(480),
        codebook_sizes=(65536,),
        streams=False,
    ),
]


def rates(frame_rate: Fraction, codebook_sizes: tuple[int, ...]) -> dict[str, float | str]:
    """Rates by name: frame rate (Hz, exact, as text), levels, bits and tokens, and seconds in a flat context."""
    bits = [math.log2(size) for size in codebook_sizes]
    tokens_per_second = frame_rate * len(codebook_sizes)
    return {
        "frame_rate": str(frame_rate),
        "levels": len(codebook_sizes),
        "bits_per_token": sum(bits) / len(bits),
        "tokens_per_second": float(tokens_per_second),
        "tokens_in_30_s": math.ceil(CLIP_SECONDS * frame_rate) * len(codebook_sizes),
        "kbit_per_second": float(frame_rate) * sum(bits) / 1000,
        "seconds_in_4096_tokens": float(CONTEXT / tokens_per_second),
    }
