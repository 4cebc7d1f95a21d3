import json
import shutil

import pytest
import torch

from hocket.codec import CodecIdentity, load_codec
from hocket.errors import InputError


@pytest.fixture
def saved(small_codec, tmp_path):
    small_codec.save(tmp_path / "codec")
    return tmp_path / "codec"


def test_a_saved_codec_loads_as_itself(small_codec, saved, speech):
    loaded = load_codec(saved)
    assert loaded.identity == small_codec.identity
    loaded.save(saved.parent / "again")
    assert load_codec(saved.parent / "again").identity == loaded.identity
    again = load_codec(str(saved))
    assert torch.equal(again.encode(speech[0], 16000).tokens_BTK, loaded.encode(speech[0], 16000).tokens_BTK)


def test_levels_cut_a_prefix(speech):
    whole, cut = load_codec("bundled"), load_codec("bundled", levels=4)
    codes = cut.encode(speech[0], 16000)
    assert torch.equal(codes.tokens_BTK, whole.encode(speech[0], 16000).tokens_BTK[..., :4])
    assert torch.equal(cut.decode(codes), whole.decode(codes))
    assert cut.identity.fingerprint != whole.identity.fingerprint
    assert cut.identity.bits_per_second == 1000


def test_an_identity_survives_json(bundled):
    assert CodecIdentity.from_dict(json.loads(json.dumps(bundled.identity.to_dict()))) == bundled.identity


def test_a_wrong_name_is_answered_with_the_right_one():
    with pytest.raises(InputError, match='did you mean "bundled"'):
        load_codec("bundeld")


def test_a_folder_without_a_codec_says_so(tmp_path):
    with pytest.raises(InputError, match=r"holds no codec: it has no config\.json"):
        load_codec(tmp_path)


@pytest.mark.parametrize("levels", [0, 4])
def test_levels_there_are_not(saved, levels):
    with pytest.raises(InputError, match="levels 1 to 3"):
        load_codec(saved, levels=levels)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", b"{", "not JSON"),
        ("config.json", b"[]", "kind"),
        ("config.json", b'{"kind": "spectral"}', "damaged"),
        ("model.safetensors", b"", "damaged"),
    ],
)
def test_damaged_files_are_refused(saved, name, content, words):
    (saved / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        load_codec(saved)


def test_weights_of_another_codec_are_refused(small_codec, saved, tmp_path):
    other = type(small_codec).random(1, "other", **small_codec.config.to_dict())
    other.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", saved)
    with pytest.raises(InputError, match="have hash"):
        load_codec(saved)
