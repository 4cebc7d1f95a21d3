"""The encoder under CTranslate2 gives what it gives under transformers, from the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from hocket.codec import load_codec
from hocket.codec.units import open_extractor
from hocket.errors import InputError
from tests.codec.zoo.units import NETWORKS, units_over

pytest.importorskip("ctranslate2")


def build_pair(folder: Path) -> tuple[Path, Path]:
    """One tiny Whisper of 30 s windows, as transformers saves it and as CTranslate2 does."""
    from ctranslate2.converters.transformers import WhisperLoader  # noqa: PLC0415 (optional)  # pyright: ignore[reportMissingImports]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes: dict[str, Any] = NETWORKS["whisper"][2] | {"max_source_positions": 1500}
        net = WhisperForConditionalGeneration(WhisperConfig(**sizes))
    net.save_pretrained(folder / "transformers")
    WhisperFeatureExtractor().save_pretrained(folder / "transformers")
    spec: Any = WhisperLoader().get_model_spec(net)
    spec.register_vocabulary([f"token{number}" for number in range(20)])
    spec.config.alignment_heads = [(0, 0)]
    spec.config.lang_ids, spec.config.suppress_ids, spec.config.suppress_ids_begin = [], [], []
    spec.validate()
    (folder / "ct2").mkdir()
    spec.save(str(folder / "ct2"))
    return folder / "transformers", folder / "ct2"


def test_the_features_are_those_of_transformers(tmp_path, speech):
    theirs, own = build_pair(tmp_path)
    wav_S = torch.cat(speech)[: 16000 * 31 + 7]
    features_TD = open_extractor("whisper-ct2", own).features(wav_S)
    with torch.no_grad():
        expected_TD = open_extractor("whisper", theirs).features(wav_S)
    assert len(features_TD) == -(-len(wav_S) // 320)
    torch.testing.assert_close(features_TD, expected_TD, atol=1e-3, rtol=1e-3)


def test_units_are_saved_whole_and_other_weights_are_refused(tmp_path, speech):
    folder, (_, own) = tmp_path / "units", build_pair(tmp_path)
    codec = units_over(open_extractor("whisper-ct2", own), "ct2-units")
    codec.save(folder)
    again = load_codec(folder)
    assert again.identity == codec.identity
    assert torch.equal(again.encode(speech[0], 16000).tokens_BTK, codec.encode(speech[0], 16000).tokens_BTK)
    file = folder / "extractor" / "model.bin"
    file.write_bytes(file.read_bytes()[:-4] + b"\1\2\3\4")
    with pytest.raises(InputError, match=r"is damaged|cannot read|can read"):
        load_codec(folder)
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="holds no Whisper model that CTranslate2 can read"):
        load_codec(folder)
