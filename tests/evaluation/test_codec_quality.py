"""Judging codecs on real speech: rows and groups, lag, levels, codebook use; the judges that are installed."""

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import hocket
from hocket import cli
from hocket.codec import Codec, CodecIdentity, SpectralCodec, read_audio
from hocket.errors import InputError
from hocket.evaluation import judges as judges_module
from hocket.evaluation.codec_quality import evaluate_codecs, evaluate_named, perplexity, read_levels
from hocket.evaluation.judges import KINDS, Heard, find_judges, judge_mel
from hocket.evaluation.recordings import read_recordings
from tests.codec.zoo.spectral import SMALL

SPEECH = Path(hocket.__file__).parent / "data" / "speech"
LATE = 400  # samples at 16 kHz


class LateCodec(Codec):
    """Two levels of 64 steps for every sample, and an output that comes `LATE` samples after its input."""

    identity = CodecIdentity(
        name="late", revision="1", weight_hash="0", sample_rate=16000, hop=1, codebook_sizes=(64, 64)
    )

    @property
    def device(self):
        return torch.device("cpu")

    def _encode_items(self, items):
        steps = [((wav_CS[0].clamp(-1, 0.999) + 1) * 2048).long() for wav_CS in items]
        return [torch.stack([step_S // 64, step_S % 64], dim=1) for step_S in steps]

    def _decode_items(self, items):
        return [self._decode_item(codes_TK) for codes_TK in items]

    def _decode_item(self, codes_TK):
        fine_T = codes_TK[:, 1] if codes_TK.shape[1] == 2 else torch.full((len(codes_TK),), 32)
        wav_S = (codes_TK[:, 0] * 64 + fine_T + 0.5) / 2048 - 1
        return torch.cat([torch.zeros(LATE), wav_S])[: len(wav_S)][None]

    def save(self, folder):
        raise NotImplementedError


class Units(LateCodec):
    @property
    def can_decode(self):
        return False


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[str]:
    """Two sets: `reader`, three sentences, and `words`, thirteen short words of two speakers."""
    root = tmp_path_factory.mktemp("sources")
    files = sorted((SPEECH / "audio").glob("*.opus"), key=lambda file: file.stat().st_size)
    sets = {"reader": files[200:203], "words": files[:13]}
    for name, chosen in sets.items():
        (root / name).mkdir()
        rows = []
        for number, file in enumerate(chosen):
            shutil.copyfile(file, root / name / file.name)
            rows.append({"id": file.stem, "audio": file.name, "speaker": "ann" if number < 11 else "bo", "text": "Yes"})
        (root / name / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return [str(root / name) for name in sets]


@pytest.fixture(scope="module")
def split(sources) -> str:
    ids = [file.stem for file in sorted(Path(sources[0]).glob("*.opus"))[:2]]
    file = Path(sources[0]).parent / "split.json"
    file.write_text(json.dumps({"held_out": {"reader": {"ids": ids}, "words": {"speakers": ["ann"]}}}))
    return str(file)


@pytest.fixture(scope="module")
def small() -> SpectralCodec:
    return SpectralCodec.random(0, "small", **SMALL)


@pytest.fixture(scope="module")
def result(sources, small):
    recordings, _ = read_recordings(sources)
    return evaluate_codecs({"late": LateCodec(), "small": small}, recordings, {"mel": judge_mel()}, [2, 1, 3])


def test_every_set_has_the_originals_and_every_codec_and_prefix(result):
    by_set = {}
    for row in result["rows"]:
        by_set.setdefault(row["set"], []).append((row["codec"], row["levels"], row["clips"]))
    variants = [(None, None), ("late", 2), ("late", 1), ("small", 2), ("small", 1), ("small", 3)]
    assert by_set == {
        name: [(*variant, clips) for variant in variants] for name, clips in (("reader", 3), ("words", 3), (None, 6))
    }


def test_scores_are_means_over_clips_and_more_levels_come_closer(result):
    scores = {(row["set"], row["codec"], row["levels"]): row["scores"]["mel"] for row in result["rows"]}
    for name in ("reader", "words", None):
        assert scores[name, None, None] == 0
        assert 0 < scores[name, "late", 2] < 0.5 * scores[name, "late", 1]
        both = (3 * scores["reader", "late", 2] + 3 * scores["words", "late", 2]) / 6
    assert scores[None, "late", 2] == pytest.approx(both, abs=2e-4)
    rates = {(row["codec"], row["levels"]): row["kbit_per_second"] for row in result["rows"]}
    assert rates["late", 2] == 16 * 12


def test_a_codec_whose_output_comes_late_is_moved_back(result):
    assert result["codecs"]["late"]["lag_ms"] == pytest.approx(LATE / 16, abs=0.1)
    assert result["codecs"]["small"]["lag_ms"] == 0  # untrained, its output tells nothing


def test_codebook_use_counts_every_frame_once(result):
    late, small = result["codecs"]["late"], result["codecs"]["small"]
    assert (
        late["frames"] == round(result["audio_seconds"] * 16000, -4)
        or abs(late["frames"] - result["audio_seconds"] * 16000) < 1600
    )
    assert len(small["perplexity"]) == len(small["entries_used"]) == 3
    assert all(0 < share <= 1 for share in small["entries_used"])
    assert all(1 <= value <= 16 for value in small["perplexity"])
    assert perplexity(torch.tensor([5, 5, 0, 5, 5])) == pytest.approx(4)


def test_a_codec_without_a_decoder_gives_use_and_encoding_speed_only(sources):
    recordings, _ = read_recordings(sources[:1])
    found = evaluate_codecs({"units": Units()}, recordings, {"mel": judge_mel()})
    assert [row["codec"] for row in found["rows"]] == [None]
    assert found["codecs"]["units"]["decode_times_real_time"] is None
    assert found["codecs"]["units"]["frames"] > 0


def test_levels_that_a_codec_has_not_are_left_out_and_none_at_all_is_refused(sources, small):
    recordings, _ = read_recordings(sources[:1], limit=1)
    rows = evaluate_codecs({"small": small}, recordings, {}, [8, 3])["rows"]
    assert [row["levels"] for row in rows] == [None, 3]
    with pytest.raises(InputError, match="levels 1 to 3; none of 8, 9"):
        evaluate_codecs({"small": small}, recordings, {}, [8, 9])
    assert read_levels("8,4,8") == [8, 4]
    for wrong in ("8 4", "0", "all"):
        with pytest.raises(InputError, match="with commas"):
            read_levels(wrong)


def test_a_split_chooses_clips_and_speakers_and_names_the_groups(sources, split):
    recordings, _ = read_recordings(sources, split)
    assert [(one.set_name, one.group, len(one.clips)) for one in recordings] == [
        ("reader", "seen speakers", 1),
        ("reader", "seen speakers", 1),
        ("words", "unseen speakers", 10),
        ("words", "unseen speakers", 1),
    ]
    rows = evaluate_codecs({"late": LateCodec()}, recordings, {}, [2])["rows"]
    assert [(row["set"], row["group"], row["clips"]) for row in rows[::2]] == [
        ("reader", "seen speakers", 2),
        (None, "seen speakers", 2),
        ("words", "unseen speakers", 2),
        (None, "unseen speakers", 2),
    ]


def test_splits_that_say_nothing_of_a_set_are_refused(sources, split, tmp_path):
    shutil.copytree(sources[0], tmp_path / "other")
    with pytest.raises(InputError, match='named "other"'):
        read_recordings([str(tmp_path / "other")], split)
    (tmp_path / "split.json").write_text('{"held_out": {"other": {"ids": ["nobody"]}}}')
    with pytest.raises(InputError, match="no clip of the set"):
        read_recordings([str(tmp_path / "other")], str(tmp_path / "split.json"))
    (tmp_path / "split.json").write_text("[]")
    with pytest.raises(InputError, match="is no split"):
        read_recordings([str(tmp_path / "other")], str(tmp_path / "split.json"))
    with pytest.raises(InputError, match="is no split"):
        read_recordings([str(tmp_path / "other")], str(tmp_path / "missing.json"))


def test_a_limit_spreads_over_the_recordings_of_usual_length(sources):
    recordings, _ = read_recordings(["bundled"], limit=5)
    assert len({one.clips[0].id for one in recordings}) == 5
    assert all(1 <= one.clips[0].probe() <= 12 for one in recordings)
    assert len(read_recordings(sources[:1], limit=9)[0]) == 3


def test_bad_files_are_named_and_the_rest_is_judged(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(judges_module, "KINDS", ())
    shutil.copytree(sources[0], tmp_path / "set")
    (tmp_path / "set" / "manifest.jsonl").unlink()
    (tmp_path / "set" / "text.wav").write_text("words")
    found = evaluate_named(["bundled"], [str(tmp_path / "set")], levels="1")
    assert found["recordings"] == 3
    assert len(found["rejected"]) == 1
    assert "text.wav" in found["rejected"][0]


def test_the_command_prints_a_table_or_one_json_object(sources, monkeypatch, capsys):
    monkeypatch.setattr(judges_module, "KINDS", ())
    arguments = ["hocket", "codec", "evaluate", "bundled", sources[0], "--levels", "8,2", "--limit", "1"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    out = capsys.readouterr().out
    assert "| original" in out
    assert "word errors are left out" in out
    monkeypatch.setattr("sys.argv", [*arguments, "--json"])
    with pytest.raises(SystemExit):
        cli.main()
    found = json.loads(capsys.readouterr().out)
    assert [row["levels"] for row in found["rows"]] == [None, 8, 2]
    assert found["codecs"]["bundled"]["identity"]["name"] == "bundled"


def test_judges_that_are_not_installed_are_named_with_what_installs_them(monkeypatch, tmp_path):
    with pytest.raises(InputError, match='no folder "whisper-large" of a Whisper model'):
        find_judges("whisper-large")

    def refuse(name: str):
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    found, left_out = find_judges(str(tmp_path))
    assert list(found) == ["mel"]
    assert len(left_out) == len(KINDS) + 1
    assert all("is not installed (pip install" in sentence for sentence in left_out)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.column)
def test_a_judge_prefers_the_original_to_noise_and_passes_over_what_is_too_short(kind):
    try:
        judge = kind.make()
    except ImportError as error:
        pytest.skip(f"{error.name} is not installed ({kind.install})")
    wav_S = read_audio(sorted((SPEECH / "audio").glob("*.opus"))[0], 16000)[0].numpy()[:48000]
    noisy_S = wav_S + 0.05 * np.random.default_rng(0).standard_normal(len(wav_S)).astype(np.float32)
    clean, noisy = judge(Heard(wav_S, wav_S))[kind.column], judge(Heard(wav_S, noisy_S))[kind.column]
    assert clean > noisy
    assert set(judge(Heard(wav_S[:800], wav_S[:800]))) <= {kind.column}
