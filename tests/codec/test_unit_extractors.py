"""Features are those of the networks' own classes, called directly and unpadded, and of nothing that was padded."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dct
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from hocket.codec.units import features_of, open_extractor, parse_extractor
from hocket.codec.units.mfcc import BANDS, BLOCK, CEPSTRA, FFT, LIFTER, WINDOW, Mfcc, differences
from hocket.errors import InputError
from tests.codec.zoo.units import LAYERS, NETWORKS, build_network

CONVOLVED = ["hubert", "wavlm", "wav2vec2"]
WHOLE_RECORDING = [*CONVOLVED, "wav2vec2-bert"]


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Folders of the tiny networks, by kind."""
    return {kind: build_network(kind, tmp_path_factory.mktemp(kind)) for kind in NETWORKS}


def call_directly(kind: str, folder, wav_S: torch.Tensor) -> Any:
    """The class's own output, all hidden states among it."""
    net = NETWORKS[kind][0].from_pretrained(folder)
    net = net.encoder.eval() if kind == "whisper" else net.eval()
    prepare_class = {"wav2vec2-bert": SeamlessM4TFeatureExtractor, "whisper": WhisperFeatureExtractor}
    prepare = prepare_class.get(kind, Wav2Vec2FeatureExtractor).from_pretrained(folder)
    prepared = prepare(wav_S.numpy(), sampling_rate=16000, return_tensors="pt")
    inputs = {name: value.float() for name, value in prepared.items() if name.startswith("input")}
    mask = {"attention_mask": prepared["attention_mask"]} if kind == "wav2vec2-bert" else {}
    with torch.no_grad():
        return net(**inputs, **mask, output_hidden_states=True), mask


@pytest.mark.parametrize("layer", [1, 2, LAYERS, None])
@pytest.mark.parametrize("kind", WHOLE_RECORDING)
def test_features_are_those_of_a_direct_call_of_the_class(kind, layer, networks, speech):
    wav_S = speech[0][:12345]
    extractor = open_extractor(kind, networks[kind], layer)
    features_TD = extractor.features(wav_S)
    direct, mask = call_directly(kind, networks[kind], wav_S)
    expected_TD = direct.last_hidden_state[0] if layer is None else direct.hidden_states[layer][0]
    if mask:
        expected_TD = expected_TD[mask["attention_mask"][0].bool()]
    assert features_TD.shape == expected_TD.shape
    torch.testing.assert_close(features_TD, expected_TD, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", [1, 2, None])
def test_whisper_features_are_those_of_its_windows(layer, networks, speech):
    wav_S = torch.cat(speech)[: 16000 + 5000]
    features_TD = open_extractor("whisper", networks["whisper"], layer).features(wav_S)
    assert len(features_TD) == 50 + 16
    for start, end in ((0, 50), (50, 66)):
        direct, _ = call_directly("whisper", networks["whisper"], wav_S[start * 320 : end * 320])
        expected_TD = direct.last_hidden_state[0] if layer is None else direct.hidden_states[layer][0]
        torch.testing.assert_close(features_TD[start:end], expected_TD[: end - start], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", WHOLE_RECORDING)
@pytest.mark.parametrize("n_samples", [0, 399, 400, 559, 560, 719, 720, 1039, 1040, 9999])
def test_recordings_of_any_length_have_the_frames_that_the_class_gives(kind, n_samples, networks, speech):
    extractor = open_extractor(kind, networks[kind], 1)
    n_mels = (n_samples - 400) // 160 + 1
    expected = max(0, n_mels // 2 if kind == "wav2vec2-bert" else (n_samples - 400) // 320 + 1)
    assert extractor.features(speech[0][:n_samples]).shape == (expected, extractor.width)


def test_padding_would_change_hubert_features(networks, speech):
    """Its group normalisation reads the whole recording, which is why items are computed unpadded."""
    net = NETWORKS["hubert"][0].from_pretrained(networks["hubert"]).eval()
    wav_S = speech[0][:8000]
    with torch.no_grad():
        alone_TD = net(wav_S[None]).last_hidden_state[0]
        padded_TD = net(torch.nn.functional.pad(wav_S, (0, 8000))[None]).last_hidden_state[0, : len(alone_TD)]
    assert float((alone_TD - padded_TD).abs().max()) > 0.01


@pytest.mark.parametrize(("kind", "normalised"), [("hubert", True), ("wavlm", False)])
def test_the_waveform_is_normalised_where_the_checkpoint_says_so(kind, normalised, networks, speech):
    extractor: Any = open_extractor(kind, networks[kind], 1)
    loud_BS, quiet_BS = (extractor.inputs(speech[0][:8000] * gain) for gain in (1.0, 0.25))
    assert torch.allclose(loud_BS, quiet_BS, atol=1e-3) == normalised
    assert torch.equal(quiet_BS[0], speech[0][:8000] * 0.25) != normalised


@pytest.mark.parametrize("kind", list(NETWORKS))
def test_a_saved_extractor_has_the_layers_that_are_used_and_no_others(kind, networks, speech, tmp_path):
    extractor = open_extractor(kind, networks[kind], 2)
    extractor.save(tmp_path)
    again = open_extractor(kind, tmp_path, 2)
    assert again.weight_hash == extractor.weight_hash
    assert torch.equal(again.features(speech[0][:9000]), extractor.features(speech[0][:9000]))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["encoder_layers" if kind == "whisper" else "num_hidden_layers"] == 2
    assert open_extractor(kind, networks[kind], 1).weight_hash != extractor.weight_hash


@pytest.mark.parametrize("kind", list(NETWORKS))
def test_files_that_do_not_fit_are_refused(kind, networks, tmp_path):
    with pytest.raises(InputError, match=f"layers 1 to {LAYERS}, so layer {LAYERS + 1}"):
        open_extractor(kind, networks[kind], LAYERS + 1)
    other = "wavlm" if kind == "hubert" else "hubert"
    with pytest.raises(InputError, match=f'describes a network of type "{other}"'):
        open_extractor(kind, networks[other])
    with pytest.raises(InputError, match=f'needs the folder or hub name of its network: "{kind}:FOLDER"'):
        parse_extractor(kind)
    folder = build_network(kind, tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"lacks preprocessor_config.json"):
        open_extractor(kind, folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"it has no config.json"):
        open_extractor(kind, folder)


def test_unknown_extractors_are_refused_with_a_hint(networks):
    with pytest.raises(InputError, match=r'"hubret" \(did you mean "hubert"\?\)'):
        parse_extractor("hubret:folder")
    with pytest.raises(InputError, match="neither a folder nor layers"):
        parse_extractor("mfcc", layer=3)
    with pytest.raises(InputError, match=r"it has no model.bin"):
        parse_extractor(f"whisper-ct2:{networks['whisper']}")
    with pytest.raises(InputError, match='layer 2 needs "whisper:FOLDER"'):
        parse_extractor(f"whisper-ct2:{networks['whisper']}", layer=2)


def reference_cepstra(wav_S: torch.Tensor) -> np.ndarray:
    """By transformers' spectrogram and scipy's cosine transform."""
    n_frames = -(-len(wav_S) // 320)
    padded_S = np.pad(wav_S.numpy(), (40, n_frames * 320 + 40 - len(wav_S)))
    filters = mel_filter_bank(FFT // 2 + 1, BANDS, 20, 8000, 16000, None, "kaldi", triangularize_in_mel_space=True)
    log_mels_MT = spectrogram(
        padded_S,
        window_function(WINDOW, "povey", periodic=False),
        WINDOW,
        320,
        FFT,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=float(np.finfo(np.float32).eps),
        remove_dc_offset=True,
    )
    lifter_C = 1 + LIFTER / 2 * np.sin(np.pi * np.arange(CEPSTRA) / LIFTER)
    cepstra_CT: Any = dct(log_mels_MT, axis=0, norm="ortho")
    return (cepstra_CT[:CEPSTRA] * lifter_C[:, None]).T


def test_mfcc_are_kaldis(speech):
    wav_S = speech[0][:16123]
    features_TD = Mfcc().features(wav_S)
    expected_TC = torch.from_numpy(reference_cepstra(wav_S)).float()
    torch.testing.assert_close(features_TD[:, :CEPSTRA], expected_TC, atol=2e-3, rtol=1e-3)


def test_mfcc_differences_are_slopes():
    ramp_TC = torch.arange(12.0)[:, None] * torch.tensor([[1.0, -2.0]])
    torch.testing.assert_close(differences(ramp_TC)[2:-2], torch.tensor([[1.0, -2.0]]).expand(8, -1))


def test_an_mfcc_frame_depends_on_its_delay_and_on_nothing_after_it(speech):
    extractor, frame = Mfcc(), BLOCK + 3
    wav_S = speech[0][: 320 * 80].clone()
    end = (frame + 1) * 320 + extractor.delay
    features_TD = extractor.features(wav_S)
    wav_S[end:] = 0.5
    assert torch.equal(extractor.features(wav_S)[: frame + 1], features_TD[: frame + 1])
    wav_S[end - 4 : end] = 0.9
    assert not torch.equal(extractor.features(wav_S)[frame], features_TD[frame])


def test_features_of_takes_any_rate_and_channels(speech):
    stereo_CS = torch.stack([speech[0], speech[0]])
    assert torch.equal(features_of(Mfcc(), stereo_CS, 16000), features_of(Mfcc(), speech[0], 16000))
    assert len(features_of(Mfcc(), speech[0][:8000], 8000)) == 50
