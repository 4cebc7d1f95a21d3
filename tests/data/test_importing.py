"""Each kind of source of codes, as its toolkit writes it, becomes the same corpus."""

import json

import datasets
import numpy as np
import pytest
import torch

from hocket.codec import CodecIdentity
from hocket.data import Corpus, read_rejected
from hocket.data.importing import import_codes
from hocket.errors import InputError

MIMI = CodecIdentity(
    name="kyutai/mimi", revision="1", weight_hash="a" * 64, sample_rate=24_000, hop=1920, codebook_sizes=(2048,) * 8
)
UNITS = CodecIdentity(
    name="units", revision="1", weight_hash="b" * 64, sample_rate=16_000, hop=640, codebook_sizes=(500,)
)


def some_codes(n_frames, levels=8, size=2048, seed=0):
    return np.random.default_rng(seed).integers(0, size, (n_frames, levels))


def imported(src, folder, codec=MIMI, **options):
    import_codes(src, folder, codec, **options)
    return {example.id: example for example in Corpus.open(folder)}


def equal(example, codes_TK, stream="audio"):
    found = example.streams[stream]
    return found.dtype == np.uint16 and np.array_equal(found, codes_TK)


@pytest.mark.parametrize("order", ["TK", "KT", "1KT", "1TK"])
def test_folders_of_npy_and_pt(tmp_path, order):
    src = tmp_path / "codes"
    (src / "more").mkdir(parents=True)
    codes = {name: some_codes(20 + i, seed=i) for i, name in enumerate(["a", "b", "more/c", "more/d"])}
    shaped = {name: c.T if "KT" in order else c for name, c in codes.items()}
    shaped = {name: c[None] if order[0] == "1" else c for name, c in shaped.items()}
    np.save(src / "a.npy", shaped["a"].astype(np.int16))
    np.save(src / "b.npy", shaped["b"].astype(np.float32))
    torch.save(torch.from_numpy(shaped["more/c"].copy()), src / "more/c.pt")
    held = {"audio_codes": torch.from_numpy(shaped["more/d"].copy()), "text": "four", "duration": 23 / 12.5}
    torch.save(held, src / "more/d.pt")
    (src / "a.txt").write_text("Hello you.\n")
    found = imported(src, tmp_path / "corpus")
    assert list(found) == list(codes)
    assert all(equal(found[name], codes[name]) for name in codes)
    assert (found["a"].text, found["b"].text, found["more/d"].text) == ("Hello you.", None, "four")
    assert found["more/d"].duration == 23 / 12.5
    assert found["a"].duration == 20 / 12.5


class Opened:
    """Something that a pickle would call."""

    def __reduce__(self):
        return print, ("run",)


def test_a_pickle_is_not_run(tmp_path, capsys):
    torch.save({"codes": some_codes(9).tolist(), "more": Opened()}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="no file of plain tensors"):
        import_codes(tmp_path, tmp_path / "corpus", MIMI)
    assert "run" not in capsys.readouterr().out


def test_slamkits_features_are_spelt_out(tmp_path):
    rows = [
        {"units": [3, 49, 7], "duration": [1, 1, 4], "file_name": "../audio/audio2.flac"},
        {"units": [5, 6], "duration": [2, 1], "file_name": "../audio/audio1.flac", "aligned_text": [["hi", 0.0, 0.1]]},
    ]
    src = tmp_path / "features.jsonl"
    src.write_text("\n".join(json.dumps(row) for row in rows))
    found = imported(src, tmp_path / "corpus", UNITS, stream="semantic")
    assert equal(found["audio/audio2"], [[3], [49], [7], [7], [7], [7]], "semantic")
    assert found["audio/audio1"].streams["semantic"][:, 0].tolist() == [5, 5, 6]
    assert found["audio/audio1"].duration == pytest.approx(3 / 25)
    assert [(word.text, word.end) for word in found["audio/audio1"].words] == [("hi", 0.1)]
    assert found["audio/audio1"].audio == "../audio/audio1.flac"


def test_slamkits_tokens_have_lost_their_time(tmp_path):
    units = [some_codes(400, 1, 500, seed)[:, 0] for seed in range(4)]
    runs = [u[np.flatnonzero(np.diff(u, prepend=-1))] for u in units]
    src = tmp_path / "tokens.jsonl"
    spelt = [{"file_name": f"{i}.flac", "audio_repr": "".join(f"<Un{u}>" for u in r)} for i, r in enumerate(runs)]
    src.write_text("".join(json.dumps(row) + "\n" for row in spelt))
    with pytest.raises(InputError, match="deduplicated"):
        import_codes(src, tmp_path / "corpus", UNITS)
    found = imported(src, tmp_path / "corpus", UNITS, deduplicated=True)
    assert all(equal(found[str(i)], run[:, None]) for i, run in enumerate(runs))


def test_qwen3_tts_json_lines(tmp_path):
    codec = CodecIdentity(
        name="Qwen/Qwen3-TTS-Tokenizer-12Hz",
        revision="1",
        weight_hash="c" * 64,
        sample_rate=24_000,
        hop=1920,
        codebook_sizes=(2048,) * 16,
    )
    codes = [some_codes(n, 16, seed=n) for n in (30, 41)]
    src = tmp_path / "train_with_codes.jsonl"
    rows = [
        {
            "audio": f"./data/utt{i}.wav",
            "text": f"其实我 {i}",
            "ref_audio": "./data/ref.wav",
            "language": "Auto",
            "audio_codes": c.tolist(),
        }
        for i, c in enumerate(codes)
    ]
    src.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    found = imported(src, tmp_path / "corpus", codec)
    assert equal(found["data/utt0"], codes[0])
    assert equal(found["data/utt1"], codes[1])
    assert (found["data/utt1"].text, found["data/utt1"].language) == ("其实我 1", None)


@pytest.mark.parametrize("kind", ["lists", "fixed", "levels first", "text"])
def test_saved_datasets(tmp_path, kind):
    codes = [some_codes(n, seed=n) for n in (30, 41, 8)][: 2 if kind == "levels first" else 3]
    nested = [c.T.tolist() if kind == "levels first" else c.tolist() for c in codes]
    columns = {"utt_id": [f"u{i}" for i in range(len(codes))], "sentence": ["one", None, "three"][: len(codes)]}
    features: dict = {"utt_id": datasets.Value("string"), "sentence": datasets.Value("string")}
    value = datasets.Value("int32")
    features["audio_tokens"] = datasets.List(datasets.List(value, length=8 if kind == "fixed" else -1))
    codec, expected = MIMI, codes
    if kind == "text":
        codec, expected = UNITS, [c[:, :1] % 500 for c in codes]
        nested = [" ".join(map(str, c[:, 0])) for c in expected]
        features["audio_tokens"] = datasets.Value("string")
    columns["audio_tokens"] = nested
    dataset = datasets.Dataset.from_dict(columns, datasets.Features(features))
    both = datasets.DatasetDict(
        {"train": dataset, "validation": dataset.map(lambda row: {"utt_id": "v" + row["utt_id"]})}
    )
    both.save_to_disk(tmp_path / "saved")
    axes = None if kind in ("text", "levels first") else "TK"
    found = imported(tmp_path / "saved", tmp_path / "corpus", codec, axes=axes)
    assert all(equal(found[f"u{i}"], c) and equal(found[f"vu{i}"], c) for i, c in enumerate(expected))
    assert (found["u0"].split, found["vu0"].split, found["u0"].text, found["u1"].text) == (
        "train",
        "valid",
        "one",
        None,
    )


@pytest.mark.parametrize("address", ["{}", "hf://{}", "stream:{}@train"])
def test_parquet_as_files_repository_and_stream(tmp_path, address, monkeypatch):
    codes = [some_codes(n, seed=n) for n in (30, 41, 9)]
    src = tmp_path / "parquet"
    src.mkdir()
    table = datasets.Dataset.from_dict({"codes": [c.T.tolist() for c in codes], "speaker_id": [7, 7, 8]})
    table.to_parquet(src / "train-00000-of-00001.parquet")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    found = imported(address.format(src), tmp_path / "corpus", axes="KT")
    assert [equal(example, c) for example, c in zip(found.values(), codes, strict=True)] == [True] * 3
    assert [example.speaker for example in found.values()] == ["7", "7", "8"]
    assert {example.split for example in found.values()} == {"train"}


@pytest.mark.parametrize("kind", ["matrix.scp", "matrix.ark", "vector.scp", "folder"])
def test_kaldi_archives(tmp_path, kind):
    kaldiio = pytest.importorskip("kaldiio")
    src = tmp_path / "dump"
    src.mkdir()
    is_vector = kind.startswith("vector")
    codes = {f"utt{i}": some_codes(20 + i, 1 if is_vector else 8, 500, seed=i) for i in range(3)}
    arrays = {id: c[:, 0].astype(np.int32) if is_vector else c.astype(np.float32) for id, c in codes.items()}
    kaldiio.save_ark(str(src / "codes.ark"), arrays, scp=str(src / "codes.scp"))
    (src / "text").write_text("utt0 hello you\nutt2 bye\n")
    (src / "utt2spk").write_text("utt0 anna\nutt1 bo\n")
    (src / "utt2dur").write_text("utt1 99\n" if is_vector else f"utt1 {21 / 12.5}\n")
    place = src if kind == "folder" else src / f"codes{kind[6:]}"
    found = imported(place, tmp_path / "corpus", UNITS if is_vector else MIMI)
    assert equal(found["utt0"], codes["utt0"])
    assert (found["utt0"].text, found["utt0"].speaker, found["utt2"].text) == ("hello you", "anna", "bye")
    if is_vector:
        assert "duration of 99 s" in read_rejected(tmp_path / "corpus")[0].reason
    else:
        assert len(found) == 3


def test_kaldi_commands_are_not_run_and_compressed_codes_are_lost(tmp_path):
    kaldiio = pytest.importorskip("kaldiio")
    (tmp_path / "a.scp").write_text(f"utt0 touch {tmp_path}/run |\n")
    with pytest.raises(InputError, match="commands are not run"):
        import_codes(tmp_path / "a.scp", tmp_path / "corpus", MIMI)
    assert not (tmp_path / "run").exists()
    kaldiio.save_ark(str(tmp_path / "b.ark"), {"u": some_codes(20).astype(np.float32)}, compression_method=2)
    with pytest.raises(InputError, match="no whole number"):
        import_codes(tmp_path / "b.ark", tmp_path / "corpus", MIMI)


@pytest.mark.parametrize(
    "lines", ["a|1 2 2 3\nmore/b.wav|4 4\n", "a\t1 2 2 3\nmore/b.wav\t4 4\n", "a|1 2 3|1 2 1\nmore/b.wav|4|2\n"]
)
def test_lines_of_units(tmp_path, lines):
    (tmp_path / "units.txt").write_text(lines)
    found = imported(tmp_path / "units.txt", tmp_path / "corpus", UNITS)
    assert found["a"].streams["audio"][:, 0].tolist() == [1, 2, 2, 3]
    assert found["more/b"].streams["audio"][:, 0].tolist() == [4, 4]
