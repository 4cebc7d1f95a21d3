"""The vocoder gives the waveform of its class, frame for frame, whatever its duration predictor says."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hocket.codec import load_codec
from hocket.codec.units import UnitVocoder
from hocket.errors import InputError
from tests.codec.zoo.units import CLUSTERS, VOCODERS, build_mfcc, build_spoken, build_vocoder

UNITS = torch.tensor([3, 3, 1, 7, 0, 1, 11, 11, 2])


def open_tiny(kind: str, folder, speaker: int = 1, language: int = 2, **changes: Any) -> UnitVocoder:
    return UnitVocoder.open(build_vocoder(kind, folder, **changes), speaker, language)


@pytest.mark.parametrize("kind", list(VOCODERS))
def test_the_waveform_is_that_of_the_class_where_its_predictor_says_one_frame(kind, tmp_path):
    vocoder = open_tiny(kind, tmp_path)
    vocoder.net.dur_predictor.proj.weight.data.zero_()
    vocoder.net.dur_predictor.proj.bias.data.zero_()
    with torch.no_grad():
        expected_BS, _ = vocoder.net(UNITS[None], torch.tensor([[1]]), torch.tensor([[2]]))
        torch.testing.assert_close(vocoder(UNITS), expected_BS[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", list(VOCODERS))
def test_durations_are_the_predictors_and_change_no_length_of_frames(kind, tmp_path):
    vocoder = open_tiny(kind, tmp_path)
    vocoder.net.dur_predictor.proj.bias.data.fill_(1.2)
    with torch.no_grad():
        wav_BS, _ = vocoder.net(UNITS[None], torch.tensor([[1]]), torch.tensor([[2]]))
        durations_N = vocoder.predict_durations(UNITS)
        assert len(vocoder(UNITS)) == len(UNITS) * 320
    assert int(durations_N.sum()) * 320 == wav_BS.shape[1] > len(UNITS) * 320


def test_unit_one_is_a_unit_and_no_padding(tmp_path):
    """The class counts `t2u_pad_token_id`, which is 1, out of its lengths."""
    vocoder = open_tiny("seamless_m4t", tmp_path)
    assert vocoder.net.pad_token_id == 1
    with torch.no_grad():
        assert vocoder(torch.tensor([1, 1, 1])).shape == (960,)
        assert vocoder(torch.zeros(0, dtype=torch.int64)).shape == (0,)


def test_speaker_and_language_are_chosen_and_checked(tmp_path):
    folder = build_vocoder("seamless_m4t", tmp_path)
    with torch.no_grad():
        voices = [UnitVocoder.open(folder, *chosen)(UNITS) for chosen in ((0, 0), (1, 0), (0, 1))]
    assert not torch.allclose(voices[0], voices[1])
    assert not torch.allclose(voices[0], voices[2])
    with pytest.raises(InputError, match="speaker ids 0 to 3, not 4"):
        UnitVocoder.open(folder, 4, 0)
    with pytest.raises(InputError, match="language ids 0 to 2, not -1"):
        UnitVocoder.open(folder, 0, -1)


def test_a_whole_seamless_model_gives_its_vocoder(tmp_path):
    vocoder = open_tiny("seamless_m4t", tmp_path)
    file = tmp_path / "model.safetensors"
    whole = {f"vocoder.{name}": tensor for name, tensor in load_file(file).items()}
    save_file(whole | {"shared.weight": torch.zeros(3, 3)}, file, metadata={"format": "pt"})
    assert UnitVocoder.open(tmp_path, 1, 2).weight_hash == vocoder.weight_hash


def test_units_with_a_vocoder_decode_to_whole_frames(tmp_path, speech):
    codec = load_codec(build_spoken(tmp_path))
    codes = codec.encode(speech[0][:8000], 16000)
    wav_BS = codec.decode(replace(codes, n_samples_B=None))
    assert codec.can_decode
    assert wav_BS.shape == (1, 25 * 320)
    assert float(wav_BS.std()) > 1e-4
    with pytest.raises(InputError, match="cannot stream: its vocoder looks at frames on both sides"):
        codec.stream_decoder()


def test_attaching_a_vocoder_leaves_the_units_as_they_are(tmp_path):
    units: Any = load_codec(build_mfcc(tmp_path / "units"))
    spoken = units.with_vocoder(open_tiny("seamless_m4t_v2", tmp_path / "vocoder"))
    assert spoken.identity == units.identity
    with pytest.raises(InputError, match=r"has no vocoder, so it cannot decode; attach one by with_vocoder"):
        units.decode(units.encode(torch.zeros(1, 3200), 16000))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unit_hifi_gan_vocab_size": CLUSTERS + 1}, "speaks 13 units at 16000 Hz"),
        ({"sampling_rate": 24000}, "12 units at 24000 Hz, 320 samples each"),
        ({"upsample_rates": [5, 4, 4, 2, 1], "upsample_kernel_sizes": [11, 8, 8, 4, 3]}, "160 samples each"),
        ({"upsample_kernel_sizes": [10, 8, 8, 4, 4]}, "does not give a whole 320 samples a frame"),
    ],
)
def test_a_vocoder_of_other_units_is_refused(changes, said, tmp_path):
    units: Any = load_codec(build_mfcc(tmp_path / "units"))
    with pytest.raises(InputError, match=said):
        units.with_vocoder(open_tiny("seamless_m4t", tmp_path / "vocoder", **changes))


def test_a_changed_vocoder_is_refused(tmp_path):
    folder = build_spoken(tmp_path)
    file = folder / "vocoder" / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"hifi_gan.conv_post.bias": torch.ones(1)}, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"the vocoder in folder .* is damaged"):
        load_codec(folder)
    with pytest.raises(InputError, match="holds no vocoder of SeamlessM4T: its model_type is null"):
        UnitVocoder.open(folder, 0, 0)
