"""Recognisers, voices and quality from tiny models on disk: batches equal single clips, bad folders are named."""

import sys

import numpy as np
import pytest

from hocket.errors import InputError
from hocket.evaluation.generation import find_panel, open_recogniser
from hocket.evaluation.generation.quality import open_utmos
from hocket.evaluation.generation.voices import WavLM, compare
from hocket.evaluation.judges import RATE
from tests.evaluation.speech_models import save_ctc, save_gpt2, save_utmos, save_wavlm, save_whisper

WAVS = [0.1 * np.random.default_rng(n).standard_normal(n).astype(np.float32) for n in (16000, 24000, 9000, 100, 16000)]
FOLDERS = {
    "whisper": save_whisper,
    "ctc-group": lambda folder: save_ctc(folder, "group"),
    "ctc-layer": lambda folder: save_ctc(folder, "layer"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judges")
    return {name: make(folder / name) for name, make in FOLDERS.items()}


@pytest.mark.parametrize("name", FOLDERS)
def test_clips_are_heard_in_a_batch_as_alone(folders, name):
    recogniser = open_recogniser(folders[name])
    together = recogniser.transcribe(WAVS)
    assert together == [recogniser.transcribe([wav_S])[0] for wav_S in WAVS]
    assert all(text for text, wav_S in zip(together, WAVS, strict=True) if len(wav_S) > RATE // 10)
    assert together[3] == ""
    assert recogniser.transcribe([]) == []


def test_only_models_that_know_masks_hear_in_batches(folders):
    assert [open_recogniser(folders[f"ctc-{norm}"])._batch for norm in ("group", "layer")] == [1, 8]  # type: ignore[attr-defined]


def test_what_whisper_does_not_know_is_refused(folders):
    recogniser = open_recogniser(folders["whisper"])
    with pytest.raises(InputError, match='knows English alone, and a clip is in "es"'):
        recogniser.transcribe(WAVS, "es-MX")
    with pytest.raises(InputError, match=r"hears 30 s at once, and a clip lasts 31\.0 s"):
        recogniser.transcribe([np.zeros(31 * RATE, np.float32)])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "there is no folder"),
        ([], "holds no recogniser: neither model.bin"),
        (["config.json"], "holds no model of speech recognition that can be loaded"),
    ],
)
def test_a_folder_without_a_recogniser_is_named(tmp_path, files, message):
    folder = tmp_path / "nothing"
    if files is not None:
        folder.mkdir()
        for file in files:
            (folder / file).write_text("{}")
    with pytest.raises(InputError, match=message) as caught:
        open_recogniser(folder)
    assert str(folder) in str(caught.value)


def test_faster_whisper_that_is_not_installed_is_named(tmp_path, monkeypatch):
    (tmp_path / "model.bin").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(InputError, match=r"which is not installed \(pip install 'hocket\[eval\]'\)"):
        open_recogniser(tmp_path)


def test_voices_of_wavlm_are_compared(tmp_path):
    voices = WavLM(save_wavlm(tmp_path))
    one, other = (voices.embed(wav_S) for wav_S in WAVS[:2])
    assert compare(one, one) == pytest.approx(1, abs=1e-5)
    similarity = compare(one, other)
    assert similarity is not None
    assert -1 <= similarity < 1
    assert voices.embed(np.zeros(RATE, np.float32)) is None
    assert compare(one, voices.embed(WAVS[3])) is None


def test_another_model_is_no_wavlm(tmp_path):
    with pytest.raises(InputError, match="holds no model of voices"):
        WavLM(save_ctc(tmp_path, "layer"))


def test_utmos_is_a_torchscript_file(tmp_path):
    judge = open_utmos(save_utmos(tmp_path / "utmos.pt"))
    assert judge(np.full(RATE, 0.5, np.float32)) == pytest.approx(1.5)
    assert judge(WAVS[3]) is None
    (tmp_path / "other.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="is no TorchScript file"):
        open_utmos(tmp_path / "other.pt")
    with pytest.raises(InputError, match="there is no file"):
        open_utmos(tmp_path / "none.pt")


def test_a_panel_says_who_is_missing(monkeypatch, folders, tmp_path):
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    panel, left_out = find_panel()
    assert panel.settings["recogniser"] is None
    assert [sentence.split(" left out")[0] for sentence in left_out] == [
        "speaker similarity is",
        "DNSMOS is",
        "word errors are",
        "similarity by WavLM is",
        "UTMOS is",
        "generative perplexity is",
    ]
    panel, left_out = find_panel(
        recogniser=folders["whisper"],
        wavlm=save_wavlm(tmp_path / "wavlm"),
        utmos=save_utmos(tmp_path / "utmos.pt"),
        reader=save_gpt2(tmp_path / "gpt2"),
    )
    assert len(left_out) == 2
    assert panel.settings["voices"] == {"similarity_wavlm": "wavlm wavlm"}
    assert (panel.settings["recogniser"], panel.settings["reader"]) == ("whisper whisper", "gpt2 gpt2")
