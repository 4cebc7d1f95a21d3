"""Hugging Face data sets through `load_dataset`, whole and streamed, from repositories in a folder."""

import json
import pickle
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from recordings import write_noise

from hocket.data.clips import Clip, HeldAudio, Rejected, StoredAudio
from hocket.data.sources import open_source, read_clips
from hocket.data.sources.hub import Repository
from hocket.data.words import Word
from hocket.errors import InputError

WORDS = [{"word": "one", "start": 0.1, "end": 0.2}]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf-cache")


def write_parquet(folder: Path, audio: Path, with_features: bool = True, **splits: list[str]) -> Path:
    """A repository of parquet files, its audio inside."""
    (folder / "data").mkdir(parents=True)
    features = datasets.Features({"audio": datasets.Audio(), "text": datasets.Value("string")})
    for split, texts in splits.items():
        columns = {
            "audio": [{"bytes": audio.read_bytes(), "path": "a.wav"} for _ in texts],
            "text": texts,
            "words": [WORDS for _ in texts],
            "start": [5.0 for _ in texts],
        }
        table = pa.table(columns)
        if with_features:
            notes = {"info": {"features": datasets.Features(_rest(table) | features).to_dict()}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(notes)})
        pyarrow.parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def _rest(table: pa.Table) -> datasets.Features:
    return datasets.Features.from_arrow_schema(table.select(["words", "start"]).schema)


@pytest.mark.parametrize("with_features", [True, False])
@pytest.mark.parametrize("prefix", ["", "hf://", "stream:"])
def test_parquet(folder, tmp_path, prefix, with_features):
    repository = write_parquet(tmp_path / "repo", folder / "b.wav", with_features, train=["x", "y"], validation=["z"])
    source = open_source(f"{prefix}{repository}")
    clips = [item for item in source if isinstance(item, Clip)]
    expected = [
        ("train-00000000", "x", "train"),
        ("train-00000001", "y", "train"),
        ("validation-00000000", "z", "valid"),
    ]
    assert [(clip.id, clip.text, clip.split) for clip in clips] == expected
    assert source.n_clips == (None if prefix == "stream:" else 3)
    assert isinstance(clips[0].audio, HeldAudio if prefix == "stream:" else StoredAudio)
    assert clips[0].words == (Word(text="one", start=0.1, end=0.2),)
    assert clips[0].start is None
    kept = pickle.loads(pickle.dumps(clips[-1]))
    np.testing.assert_array_equal(kept.read(8000), read_clips(folder / "b.wav")[0].read(8000))
    assert [clip.id for clip in source] == [clip.id for clip in clips]


@pytest.mark.parametrize("prefix", ["hf://", "stream:"])
def test_one_split(folder, tmp_path, prefix):
    repository = write_parquet(tmp_path / "repo", folder / "a.wav", train=["x", "y"], test=["z"])
    (clip,) = read_clips(f"{prefix}{repository}@test")
    assert (clip.id, clip.text, clip.split) == ("00000000", "z", "test")
    with pytest.raises(InputError, match=r"does not load: .*holdout"):
        read_clips(f"{prefix}{repository}@holdout")


def test_a_file_of_parquet(folder, tmp_path):
    repository = write_parquet(tmp_path / "repo", folder / "a.wav", train=["x", "y"])
    clips = read_clips(repository / "data" / "train-00000-of-00001.parquet")
    assert [clip.text for clip in clips] == ["x", "y"]


@pytest.mark.parametrize("prefix", ["hf://", "stream:"])
def test_an_audiofolder(tmp_path, prefix):
    repository = tmp_path / "repo"
    for split in ("train", "test"):
        (repository / split).mkdir(parents=True)
        write_noise(repository / split / "a.wav", 0.3)
        row = {"file_name": "a.wav", "transcription": f"In {split}."}
        (repository / split / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    clips = read_clips(f"{prefix}{repository}")
    assert [(clip.text, clip.split) for clip in clips] == [("In train.", "train"), ("In test.", "test")]
    assert [len(clip.read(8000)) for clip in clips] == [2400, 2400]


@pytest.mark.parametrize("prefix", ["hf://", "stream:"])
def test_text_alone(tmp_path, prefix):
    (tmp_path / "repo").mkdir()
    rows = [{"text": "One."}, {"text": ""}, {"text": "Three.", "id": "third"}]
    (tmp_path / "repo" / "train.jsonl").write_text("".join(json.dumps({"id": None} | row) + "\n" for row in rows))
    one, bad, three = open_source(f"{prefix}{tmp_path}/repo@train")
    assert isinstance(one, Clip)
    assert (one.text, one.audio, three.id) == ("One.", None, "third")
    assert isinstance(bad, Rejected)
    assert "has neither audio nor text" in bad.reason


def test_saved_text_alone(tmp_path):
    datasets.Dataset.from_dict({"text": ["One.", "Two."]}).save_to_disk(str(tmp_path / "saved"))
    assert [(clip.text, clip.audio) for clip in read_clips(tmp_path / "saved")] == [("One.", None), ("Two.", None)]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hf://user/name", Repository("user/name")),
        ("user/name:en", Repository("user/name", "en")),
        ("user/name@train[:10%]", Repository("user/name", None, "train[:10%]")),
        ("hf://user/name:en@train", Repository("user/name", "en", "train")),
    ],
)
def test_addresses(address, expected):
    assert Repository.parse(address, streaming=False) == expected


def test_names_that_lead_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", _not_found)
    with pytest.raises(
        InputError, match='no file or folder "user/name", and the Hugging Face dataset "user/name" does not'
    ):
        list(open_source("user/name"))
    with pytest.raises(InputError, match="there is no file or folder"):
        open_source("user/name.wav")


def _not_found(*args: object, **kwargs: object) -> None:
    raise FileNotFoundError("it isn't there")
