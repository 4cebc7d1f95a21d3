import json
import shutil
from dataclasses import replace

import pytest
import torch

from hocket.codec import SpectralCodec, load_codec, write_audio
from hocket.codec.learning import AdversarialTraining, AudioStore, ReconstructionTraining
from hocket.errors import InputError
from hocket.training.codec_training import CodecRecipe, train_codec

NETWORK = {
    "levels": 2,
    "entries": 8,
    "latent": 4,
    "encoder_width": 8,
    "encoder_hidden": 8,
    "encoder_blocks": 1,
    "decoder_width": 8,
    "decoder_hidden": 8,
    "decoder_blocks": 1,
}
SCHEDULE = ReconstructionTraining(steps=6, batch=2, crop=0.2, warmup=1, unquantized=2, fit_batches=2, bf16=False)
ADVERSARIAL = AdversarialTraining(steps=2, batch=2, crop=0.2, windows=(256,), periods=(2,), channels=2, bf16=False)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder of 20 clips of ten speakers, one of them no audio."""
    folder = tmp_path_factory.mktemp("recordings") / "some_set"
    rows = []
    for index in range(20):
        generator = torch.Generator().manual_seed(index)
        write_audio(folder / f"{index}.wav", 0.1 * torch.randn(8000, generator=generator), 16000)
        rows.append({"id": str(index), "audio": f"{index}.wav", "speaker": f"speaker {index % 10}"})
    (folder / "7.wav").write_bytes(b"no audio")
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def recipe(recordings, **changes) -> CodecRecipe:
    given = {"network": NETWORK, "reconstruction": SCHEDULE, "adversarial": ADVERSARIAL, "name": "mine"}
    return CodecRecipe(sources=(str(recordings),), **given | changes)


@pytest.fixture(scope="module")
def trained(recordings, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "run"
    return out, train_codec(recipe(recordings), out)


def test_a_training_ends_with_a_codec_that_loads(trained):
    out, result = trained
    codec = load_codec(result.folder)
    assert codec.identity.name == "mine"
    assert codec.codebook_sizes == (8, 8)
    assert (result.steps, result.adversarial_steps, result.n_rejected) == (6, 2, 1)
    assert list(result.held_out_mel) == [2, 1]
    assert json.loads((out / "rejected.jsonl").read_text())["id"] == "7"


def test_the_adversarial_phase_begins_with_the_decoder_that_reconstruction_left(recordings, tmp_path):
    plain = train_codec(recipe(recordings, adversarial=None), tmp_path / "plain")
    kept = train_codec(recipe(recordings, adversarial=replace(ADVERSARIAL, kept=1.0)), tmp_path / "kept")
    hashes = [load_codec(result.folder).identity.weight_hash for result in (plain, kept)]
    assert hashes[0] == hashes[1]


def test_the_split_is_written_and_nothing_of_it_is_in_the_store(trained):
    out, result = trained
    rule = json.loads((out / "split.json").read_text())["held_out"]["some_set"]
    assert len(rule["speakers"]) == 1
    assert len(rule["ids"]) == 1
    assert result.n_held_out == 3
    assert len(AudioStore(out / "audio")) == result.n_clips == 20 - 3 - 1


def test_a_given_split_is_obeyed(recordings, tmp_path):
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"held_out": {"some_set": {"ids": ["0", "1"], "speakers": ["speaker 3"]}}}))
    result = train_codec(recipe(recordings, split=str(split), adversarial=None), tmp_path / "run")
    assert (result.n_held_out, result.n_clips, result.adversarial_steps) == (4, 15, 0)


def test_a_finished_training_started_again_changes_nothing(recordings, trained, tmp_path):
    out, _ = trained
    again = shutil.copytree(out, tmp_path / "again")
    train_codec(recipe(recordings), again)
    assert load_codec(again / "codec").identity == load_codec(out / "codec").identity


def test_an_interrupted_training_goes_on_to_the_same_codec(recordings, trained, tmp_path):
    out, _ = trained
    train_codec(recipe(recordings, reconstruction=SCHEDULE, adversarial=None), tmp_path / "parts")
    train_codec(recipe(recordings), tmp_path / "parts")
    assert load_codec(tmp_path / "parts" / "codec").identity == load_codec(out / "codec").identity


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": NETWORK | {"levels": 3}}, "other network"),
        ({"start": "bundled", "network": None}, "other start and network"),
    ],
)
def test_a_folder_of_another_training_is_refused(recordings, trained, changes, words):
    with pytest.raises(InputError, match=words):
        train_codec(recipe(recordings, **changes), trained[0])


def test_a_training_goes_on_from_a_codec(recordings, tmp_path):
    SpectralCodec.random(0, "first", **NETWORK).save(tmp_path / "first")
    schedule = ReconstructionTraining(steps=2, batch=2, crop=0.2, unquantized=0, bf16=False)
    changes = {"start": str(tmp_path / "first"), "network": None, "reconstruction": schedule, "adversarial": None}
    result = train_codec(recipe(recordings, **changes), tmp_path / "run")
    first, tuned = load_codec(tmp_path / "first"), load_codec(result.folder)
    assert tuned.codebook_sizes == first.codebook_sizes
    assert tuned.identity.fingerprint != first.identity.fingerprint
    assert first.identity.fingerprint in tuned.identity.revision


@pytest.mark.parametrize("content", ["[]", "{", '{"held_out": {"a": 3}}'])
def test_a_malformed_split_is_refused_by_name(recordings, tmp_path, content):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(InputError, match=r'split\.json" is no split'):
        train_codec(recipe(recordings, split=str(tmp_path / "split.json")), tmp_path / "run")


def test_nothing_to_train_on_says_why(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.wav").write_bytes(b"no audio")
    with pytest.raises(InputError, match=r"no clip is left to train on; the first"):
        train_codec(recipe(tmp_path / "audio"), tmp_path / "run")
