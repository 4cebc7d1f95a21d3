"""Axes, range, length and codec of imported codes are checked, and what is wrong is said in words."""

import json
from pathlib import Path

import numpy as np
import pytest

from hocket.codec import CodecIdentity, load_codec
from hocket.data import Corpus, read_clips, read_rejected
from hocket.data.importing import Verification, import_codes, read_identity
from hocket.data.importing.identity import knows_weights
from hocket.errors import InputError
from hocket.evaluation.codec_table import list_codecs
from hocket.evaluation.inspect import inspect

CODEC = CodecIdentity(
    name="kyutai/mimi", revision="1", weight_hash="a" * 64, sample_rate=24_000, hop=1920, codebook_sizes=(2048,) * 8
)
GOOD = np.arange(8 * 25).reshape(25, 8)


def changed(frame, level, value):
    codes = GOOD.astype(type(value))
    codes[frame, level] = value
    return codes.tolist()


def write(tmp_path, *rows):
    src = tmp_path / "rows.jsonl"
    src.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return src


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"codes": changed(3, 2, -1)}, "level 2 holds -1 at frame 3, outside its codebook of 2,048 entries"),
        ({"codes": changed(24, 7, 2048)}, r"level 7 holds 2048 at frame 24, .* \(0 to 2,047\)"),
        ({"codes": changed(0, 1, 0.5)}, "level 1 holds 0.5 at frame 0, which is no whole number"),
        ({"codes": GOOD[:, :7].tolist()}, r"\[25, 7\]: neither axis is the 8 levels .* --levels"),
        ({"codes": GOOD[:8].tolist()}, r"\[8, 8\]: both axes could be the 8 levels .* --axes"),
        ({"codes": GOOD[:, 0].tolist()}, r"shape \[25\], which should be \[frames, 8\]"),
        ({"codes": [[1, 2], [3]]}, "lists of different lengths"),
        ({"codes": [["x"] * 8]}, "hold 'x', which is no whole number"),
        ({"codes": []}, r"shape \[0\]"),
        ({"codes": "1 2 b"}, 'written "1 2 b"'),
        ({"codes": GOOD.tolist(), "duration": 4.0}, "25 frames, but its duration of 4 s would be 50 at the 12.5 Hz"),
        ({"codes": GOOD.tolist(), "codec": "dac-24khz"}, 'of codec "dac-24khz", not of codec "kyutai/mimi"'),
        ({"codes": GOOD.tolist(), "sample_rate": 16_000}, "sample rate 16000 Hz, .* 24000 Hz; .* --ignore"),
        ({"codes": GOOD.tolist(), "frame_rate": 25}, "frame rate 25 Hz"),
        ({"codes": GOOD.tolist(), "id": "good"}, 'id "good" is that of an earlier row'),
        ({"text": "no codes"}, "has no column codes, .* by --column"),
        ("{broken", '"rows.jsonl, line 2" is no valid JSON'),
        ("[1, 2]", "is no JSON object"),
    ],
)
def test_a_bad_row_is_named_with_its_reason(tmp_path, row, reason):
    good = {
        "id": "good",
        "codes": GOOD.tolist(),
        "duration": 2.1,
        "codec": "mimi",
        "frame_rate": 12.5,
        "sample_rate": 24000,
    }
    card = import_codes(write(tmp_path, good, row), tmp_path / "corpus", CODEC)
    assert (card.n_examples, card.n_rejected) == (1, 1)
    (rejected,) = read_rejected(tmp_path / "corpus")
    assert rejected.audio == "rows.jsonl, line 2"
    assert "\n" not in rejected.reason
    assert np.array_equal(Corpus.open(tmp_path / "corpus")[0].streams["audio"], GOOD)
    with pytest.raises(InputError, match=reason):
        import_codes(write(tmp_path, good, row), tmp_path / "strict", CODEC, strict=True)
    assert not (tmp_path / "strict").exists()


def test_columns_that_mean_something_else_can_be_left_out(tmp_path):
    src = write(tmp_path, {"codes": GOOD.tolist(), "sample_rate": 44_100, "duration": 99, "codec": "flac"})
    card = import_codes(src, tmp_path / "corpus", CODEC, ignore={"sample_rate", "duration"})
    assert card.n_examples == 1


def test_one_order_for_all_rows(tmp_path):
    src = write(tmp_path, {"codes": GOOD.tolist()}, {"codes": GOOD.T.tolist()})
    with pytest.raises(InputError, match=r'mixes orders of axes: "rows.jsonl, line 1" is \[frames, levels\]'):
        import_codes(src, tmp_path / "corpus", CODEC)
    assert not (tmp_path / "corpus").exists()
    card = import_codes(src, tmp_path / "corpus", CODEC, axes="KT")
    assert (card.n_examples, card.settings["import"]["axes"]) == (1, "KT")
    assert "[frames, levels]" not in read_rejected(tmp_path / "corpus")[0].reason
    assert "as [levels, frames], which --axes KT declares" in read_rejected(tmp_path / "corpus")[0].reason


def test_square_rows_with_declared_axes_and_fewer_levels(tmp_path):
    square = GOOD[:8] % 8
    import_codes(write(tmp_path, {"codes": square.T.tolist()}), tmp_path / "a", CODEC, axes="KT")
    assert np.array_equal(Corpus.open(tmp_path / "a")[0].streams["audio"], square)
    card = import_codes(write(tmp_path, {"codes": GOOD[:, :3].tolist()}), tmp_path / "b", CODEC, levels=3)
    assert card.levels == {"audio": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": "LT"}, 'axes are "TK" .* not "LT"'),
        ({"levels": 9}, "has levels 1 to 8"),
        ({"stream": "text"}, 'cannot be called "text"'),
        ({"deduplicated": True}, "8 levels are no deduplicated units"),
    ],
)
def test_options_are_checked(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        import_codes(write(tmp_path, {"codes": GOOD.tolist()}), tmp_path / "corpus", CODEC, **options)


def test_unusable_sources(tmp_path):
    for name, message in [("none", "there is no file or folder"), ("", "holds no codes"), ("x.xyz", "of no kind")]:
        (tmp_path / "src").mkdir(exist_ok=True)
        (tmp_path / "src/x.xyz").touch()
        with pytest.raises(InputError, match=message):
            import_codes(tmp_path / "src" / name, tmp_path / "corpus", CODEC)
    with pytest.raises(
        InputError, match=r'no row of ".*" can be used; the first, "rows.jsonl, line 1": level 2 holds -1'
    ):
        import_codes(write(tmp_path, {"codes": changed(3, 2, -1)}), tmp_path / "corpus", CODEC)
    (tmp_path / "codec.json").write_text('{"codec": "encodec-24khz"}')
    with pytest.raises(InputError, match=r'in its codec.json it says that its codes are of codec "encodec-24khz"'):
        import_codes(write(tmp_path, {"codes": GOOD.tolist()}), tmp_path / "corpus", CODEC)


FACTS = {"name": "mine", "sample_rate": 16000, "hop": 320, "codebook_sizes": [64, 32]}


def test_the_identity_of_a_codec_that_is_not_at_hand(tmp_path):
    written = read_identity(json.dumps(FACTS))
    (tmp_path / "facts.json").write_text(json.dumps(FACTS | {"weight_hash": "f" * 64}))
    stated = read_identity(tmp_path / "facts.json")
    assert (written.levels, float(written.frame_rate)) == (2, 50.0)
    assert (knows_weights(written), knows_weights(stated)) == (False, True)
    assert written.fingerprint != stated.fingerprint != read_identity(json.dumps(FACTS | {"name": "b"})).fingerprint
    assert read_identity(json.dumps(FACTS), levels=1).codebook_sizes == (64,)


@pytest.mark.parametrize("facts", [lambda: inspect("bundled"), lambda: {"codecs": list_codecs(["mimi"], 8)}])
def test_what_inspect_and_codecs_print_are_facts(facts):
    found = read_identity(json.dumps(facts()))
    expected = load_codec("bundled").identity.fingerprint if found.name != "mimi" else found.fingerprint
    assert (found.levels, found.fingerprint) == (8, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hop": None}, "lack hop"),
        ({"hop": 3.5}, "hop 3.5, which should be a whole number"),
        ({"codebook_sizes": [70_000]}, "2 to 65,536"),
        ({"codebook_sizes": 8}, "should list"),
    ],
)
def test_malformed_facts(change, message):
    with pytest.raises(InputError, match=message):
        read_identity(json.dumps(FACTS | change))
    for text in ("{", "no/such.json"):
        with pytest.raises(InputError, match=r"no valid JSON|there is no file"):
            read_identity(text)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """Codes of some packaged speech as .npy, [levels, frames], and the folder of the recordings."""
    codec, src = load_codec("bundled"), tmp_path_factory.mktemp("encoded")
    clips = [clip for clip in read_clips("bundled") if clip.probe() < 4][:4]
    paths = [clip.audio for clip in clips if isinstance(clip.audio, Path)]
    for clip, path in zip(clips, paths, strict=True):
        codes = codec.encode(clip.read(codec.sample_rate)[None], codec.sample_rate)
        np.save(src / f"{path.stem}.npy", codes.tokens_BTK[0].numpy().T)
    return src, paths[0].parent


def test_recordings_encoded_again_agree(encoded, tmp_path):
    src, recordings = encoded
    said = []
    verify = Verification(load_codec("bundled"), recordings)
    import_codes(src, tmp_path / "corpus", verify.codec.identity, verify=verify, notify=said.append)
    assert "of 4 recordings are equal" in said[0]
    with pytest.raises(InputError, match=r'no row of ".*" names a recording'):
        import_codes(src, tmp_path / "b", verify.codec.identity, verify=Verification(verify.codec, tmp_path))


@pytest.mark.parametrize(
    ("order", "level"), [([1, 0, 2, 3, 4, 5, 6, 7], 0), ([0, 1, 2, 3, 5, 4, 6, 7], 4), (list(range(7, -1, -1)), 0)]
)
def test_levels_in_another_order_are_refused(encoded, tmp_path, order, level):
    src, recordings = encoded
    (tmp_path / "permuted").mkdir()
    for path in src.glob("*.npy"):
        np.save(tmp_path / "permuted" / path.name, np.load(path)[order])
    verify = Verification(load_codec("bundled"), recordings)
    with pytest.raises(InputError, match=rf"level {level} agrees in \d+\.\d % of the frames of 4 recordings"):
        import_codes(tmp_path / "permuted", tmp_path / "corpus", verify.codec.identity, verify=verify)
    assert not (tmp_path / "corpus").exists()
