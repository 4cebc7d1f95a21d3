"""Two streams of one recording."""

import pytest
import torch

from hocket.codec import load_codec
from hocket.codec.combined import Combined, load_combined
from hocket.errors import InputError
from tests.codec.zoo.units import build_mfcc


@pytest.fixture
def units(tmp_path):
    return load_codec(build_mfcc(tmp_path / "units"))


def test_one_recording_gives_the_codes_that_each_codec_gives(units, small_codec, speech):
    batch_BS = torch.stack([speech[0][:8000], speech[1][:8000]])
    codes = Combined(units, small_codec).encode(batch_BS, 16000, [8000, 5000])
    assert list(codes) == ["semantic", "acoustic"]
    for codec, name in ((units, "semantic"), (small_codec, "acoustic")):
        alone = codec.encode(batch_BS, 16000, [8000, 5000])
        assert torch.equal(codes[name].tokens_BTK, alone.tokens_BTK)
        assert codes[name].codec == codec.identity


def test_the_acoustic_codes_decode_alone_or_beside_the_others(units, small_codec, speech):
    combined = Combined(units, small_codec)
    codes = combined.encode(speech[0][:8000], 16000)
    wav_BS = small_codec.decode(codes["acoustic"])
    assert torch.equal(combined.decode(codes), wav_BS)
    assert torch.equal(combined.decode(codes["acoustic"]), wav_BS)
    with pytest.raises(InputError, match='no "acoustic" codes'):
        combined.decode({"semantic": codes["semantic"]})


def test_a_saved_folder_has_both_codecs_and_is_refused_where_one_was_exchanged(units, small_codec, speech, tmp_path):
    small_codec.save(tmp_path / "own")
    combined = Combined(units, load_codec(tmp_path / "own", levels=2))
    combined.save(tmp_path / "both")
    again = load_combined(tmp_path / "both")
    assert again.acoustic.identity == combined.acoustic.identity
    assert torch.equal(again.encode(speech[0], 16000)["semantic"].tokens_BTK, units.encode(speech[0], 16000).tokens_BTK)
    load_codec("bundled").save(tmp_path / "both" / "acoustic")
    with pytest.raises(InputError, match="with other weights than were combined"):
        load_combined(tmp_path / "both")
    with pytest.raises(InputError, match="open it with load_combined"):
        load_codec(tmp_path / "both")
    with pytest.raises(InputError, match="does not hold two combined codecs"):
        load_combined(tmp_path / "own")


def test_units_without_a_vocoder_cannot_be_the_acoustic_codec(units):
    with pytest.raises(InputError, match="has no vocoder"):
        Combined(units, units)
