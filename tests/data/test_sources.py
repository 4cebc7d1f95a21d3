"""Every kind of source lists the same sort of clips, and what is wrong with a source is said in words."""

import csv
import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from recordings import write_noise

from hocket.data import BadAudio, read_clips
from hocket.data.clips import Clip
from hocket.data.tokenizing.splits import survey
from hocket.errors import InputError


def write_manifest(path: Path, *rows: dict | str) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def save_dataset(folder: Path, path: Path, n: int = 2, **splits: list[str]) -> Path:
    """A dataset on disk whose audio is stored as bytes."""
    features = datasets.Features({"audio": datasets.Audio(), "sentence": datasets.Value("string")})
    content = path.read_bytes()

    def one(texts: list[str]) -> datasets.Dataset:
        audio = [{"bytes": content, "path": None} for _ in texts]
        return datasets.Dataset(pa.table({"audio": audio, "sentence": texts}, schema=features.arrow_schema))

    made = datasets.DatasetDict({k: one(v) for k, v in splits.items()}) if splits else one(["hello"] * n)
    made.save_to_disk(str(folder))
    return folder


def test_folder_is_searched_and_text_lies_beside(folder):
    clips = read_clips(folder)
    assert [clip.id for clip in clips] == ["a", "b", "c", "d", "more/e", "more/f"]
    assert [clip.text for clip in clips] == ["This is a.", None, "This is c.", None, None, "This is more/f."]
    assert clips[4].name == "more/e.wav"


def test_folder_skips_hidden_files_and_survives_a_loop(folder):
    (folder / "._a.wav").write_bytes(b"resource fork")
    (folder / "more" / "loop").symlink_to(folder)
    assert len(read_clips(folder)) == 6


def test_single_file(folder):
    (clip,) = read_clips(folder / "a.wav")
    assert (clip.id, clip.name, clip.text) == ("a", "a.wav", "This is a.")


def test_bundled_speech_is_all_there():
    clips = read_clips("bundled")
    assert len(clips) == 290
    assert {clip.split for clip in clips} == {"train", "valid"}
    assert clips[0].text
    assert clips[0].read(16000).shape[0] > 16000


def test_json_manifest(folder):
    row = {"audio": "a.wav", "text": "Hi.", "speaker": "anna", "language": "en", "split": "dev-clean", "id": "x"}
    manifest = write_manifest(folder / "m.jsonl", row, {"audio": "more/e.wav"}, "", {"audio": str(folder / "b.wav")})
    first, second, third = read_clips(manifest)
    expected = Clip(
        id="x", name="a.wav", audio=folder / "a.wav", text="Hi.", speaker="anna", language="en", split="valid"
    )
    assert first == expected
    assert (second.id, second.split, third.id) == ("more/e", None, "b")


def test_manifest_spans(folder):
    manifest = write_manifest(
        folder / "m.jsonl",
        {"audio": "d.wav", "start": 0.1, "end": 0.35},
        {"audio": "d.wav", "start": 0.35},
        {"audio_filepath": "d.wav", "offset": 0.2, "duration": 0.3},
    )
    clips = read_clips(manifest)
    whole = read_clips(folder / "d.wav")[0].read(8000).numpy()
    assert [clip.id for clip in clips] == ["d:0.1-0.35", "d:0.35-", "d:0.2-0.5"]
    for clip, (first, last) in zip(clips, [(800, 2800), (2800, len(whole)), (1600, 4000)], strict=True):
        np.testing.assert_array_equal(clip.read(8000).numpy(), whole[first:last])
        assert clip.probe() == pytest.approx((last - first) / 8000)


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_table_manifest_with_foreign_names(folder, suffix):
    path = folder / f"m.{suffix}"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="," if suffix == "csv" else "\t")
        writer.writerows([["path", "sentence", "client_id", "locale"], ["a.wav", "Hi, you.", "s1", "en"]])
        writer.writerow(["b.wav", "", "", ""])
    first, second = read_clips(path)
    assert (first.text, first.speaker, first.language) == ("Hi, you.", "s1", "en")
    assert (second.text, second.speaker, second.id) == (None, None, "b")


def test_dataset_on_disk(folder, tmp_path):
    clips = read_clips(save_dataset(tmp_path / "hub", folder / "b.wav"))
    assert [(clip.id, clip.text, clip.split) for clip in clips] == [
        ("00000000", "hello", None),
        ("00000001", "hello", None),
    ]
    np.testing.assert_array_equal(clips[1].read(8000), read_clips(folder / "b.wav")[0].read(8000))


def test_dataset_dictionary_brings_splits(folder, tmp_path):
    src = save_dataset(tmp_path / "hub", folder / "a.wav", train=["x", "y"], validation=["z"], test=["w"])
    assert [(clip.name, clip.text, clip.split) for clip in read_clips(src)] == [
        ("train[0]", "x", "train"),
        ("train[1]", "y", "train"),
        ("validation[0]", "z", "valid"),
        ("test[0]", "w", "test"),
    ]


def test_dataset_without_audio(tmp_path):
    datasets.Dataset.from_dict({"label": ["a"]}).save_to_disk(str(tmp_path / "hub"))
    with pytest.raises(InputError, match=r'no Audio column and none of text \(its columns: "label"\)'):
        read_clips(tmp_path / "hub")


def test_stereo_at_another_rate_is_mixed_and_resampled(tmp_path):
    (clip,) = read_clips(write_noise(tmp_path / "s.wav", seconds=0.5, rate=48000, channels=2))
    wav_T = clip.read(16000)
    assert wav_T.shape == (8000,)
    assert clip.probe() == 0.5


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "aiff"])
def test_other_formats(tmp_path, suffix):
    write_noise(tmp_path / f"x.{suffix}", seconds=0.5, rate=16000)
    (clip,) = read_clips(tmp_path)
    assert clip.read(16000).shape[0] == pytest.approx(8000, abs=2400)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{oops"], r"m.jsonl, line 1, is not valid JSON"),
        (["[1]"], r"m.jsonl, line 1, is no JSON object"),
        ([{"audoi": "a.wav"}], r'line 1, names no audio file \(did you mean "audoi"\?\)'),
        ([{"audio": "a.wav", "split": "holdout"}], r'line 1, has the unknown split "holdout"'),
        ([{"audio": "a.wav", "start": "soon"}], r'line 1, has "soon" for start'),
        ([{"audio": "a.wav", "start": 2, "end": 1}], r"line 1, ends \(1 s\) before it starts \(2 s\)"),
        ([{"audio": "a.wav"}, {"audio": "a.wav"}], r'line 2, has the id "a" that .*line 1, has already'),
        ([], r"the manifest .* has no rows"),
    ],
)
def test_bad_manifest(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        read_clips(write_manifest(tmp_path / "m.jsonl", *rows))


def test_bad_csv_row(tmp_path):
    (tmp_path / "m.csv").write_text("audio,text\na.wav,Hi\nb.wav,one,two\n")
    with pytest.raises(InputError, match=r"m.csv, line 3, has not the 2 columns"):
        read_clips(tmp_path / "m.csv")


def test_bad_sources(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there is no file or folder"):
        read_clips(tmp_path / "nowhere")
    with pytest.raises(InputError, match="there is no audio in"):
        read_clips(tmp_path / "empty")
    write_noise(folder / "a.flac", 0.3)
    with pytest.raises(InputError, match=r'a\.wav has the id "a" that .*a\.flac has already'):
        read_clips(folder)


def test_reading_says_what_is_wrong(tmp_path):
    (tmp_path / "text.wav").write_text("I am no sound.")
    (tmp_path / "nothing.wav").touch()
    soundfile.write(tmp_path / "header.wav", np.zeros(0), 8000)
    soundfile.write(tmp_path / "nan.wav", np.full(800, np.nan, np.float32), 8000, subtype="FLOAT")
    reasons = {
        "text.wav": "it is not audio that can be read",
        "nothing.wav": "the file is empty",
        "header.wav": "it holds no samples",
        "nan.wav": "not finite",
    }
    for clip in read_clips(tmp_path):
        with pytest.raises(BadAudio, match=reasons[clip.name]):
            clip.read(8000)
    absent = Clip(id="x", name="x.wav", audio=tmp_path / "x.wav")
    with pytest.raises(BadAudio, match="there is no file"):
        absent.read(8000)


def test_span_outside_the_file(folder):
    manifest = write_manifest(folder / "m.jsonl", {"audio": "a.wav", "start": 0.1, "end": 9})
    with pytest.raises(BadAudio, match=r"start 0.1 s, end 9 s\) lies outside its file of 0.300 s"):
        read_clips(manifest)[0].read(8000)


def make_clips(n: int) -> list[Clip]:
    return [Clip(id=f"clip-{i}", name="", audio=Path()) for i in range(n)]


def splits_of(clips: list[Clip]) -> dict[str, str]:
    rule = survey(clips).rule
    return {clip.id: rule.of(clip) for clip in clips}


def test_splits_depend_on_the_id_alone():
    many, fewer = splits_of(make_clips(4000)), splits_of(make_clips(4000)[::3])
    assert fewer.items() <= many.items()
    assert 150 < list(many.values()).count("valid") < 250
    assert [many[f"clip-{i}"] for i in range(30)].count("valid") == 1  # fixed for good: corpora rely on it


@pytest.mark.parametrize("n", [2, 3, 7])
def test_a_small_source_has_both_splits(n):
    assert set(splits_of(make_clips(n)).values()) == {"train", "valid"}


def test_one_clip_is_for_training():
    assert all(splits_of([clip]) == {clip.id: "train"} for clip in make_clips(100))


def test_a_folder_is_read_by_its_manifest(tmp_path):
    write_noise(tmp_path / "a.wav", 1.0)
    write_noise(tmp_path / "b.wav", 1.0)
    (tmp_path / "manifest.jsonl").write_text('{"audio": "a.wav", "text": "hello", "split": "valid"}\n')
    (clip,) = read_clips(tmp_path)
    assert (clip.text, clip.split) == ("hello", "valid")
