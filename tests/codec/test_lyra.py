"""What only Lyra's SoundStream promises, on real speech; skipped where its published files are not at hand."""

import importlib
import json
import shutil

import numpy as np
import pytest
import torch

from hocket.codec import load_codec
from hocket.codec.adapters.lyra import (
    DECODER,
    ENCODER,
    FILES,
    HOP,
    QUANTIZER,
    LyraCodec,
    StatefulNetwork,
    open_network,
    unpack,
)
from hocket.errors import InputError
from tests.codec.zoo.lyra import AVAILABLE, FILES_FOLDER

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs LiteRT and Lyra's files (HOCKET_LYRA=folder)")
N_FRAMES = 60


@pytest.fixture(scope="module")
def lyra() -> LyraCodec:
    return LyraCodec.open(FILES_FOLDER)


@pytest.fixture(scope="module")
def packed() -> LyraCodec:
    return LyraCodec.open(FILES_FOLDER, packed=True)


@pytest.fixture(scope="module")
def wav_S(speech) -> torch.Tensor:
    return torch.cat(speech)[: N_FRAMES * HOP]


@pytest.fixture(scope="module")
def features_TD(lyra, wav_S) -> np.ndarray:
    network = StatefulNetwork(lyra.files[ENCODER], HOP)
    return np.stack([network(frame_S) for frame_S in wav_S.view(-1, HOP).numpy()])


def test_codes_are_those_of_a_direct_call_of_the_published_networks(lyra, wav_S, features_TD):
    quantize = open_network(lyra.files[QUANTIZER]).get_signature_runner("encode")
    direct = [
        quantize(input_frames=feature_D.reshape(1, 1, -1), num_quantizers=np.int32(46))["output_0"].reshape(-1)
        for feature_D in features_TD
    ]
    assert lyra.encode(wav_S, 16000).tokens_BTK[0].tolist() == np.stack(direct).tolist()


def test_codes_are_the_nearest_vectors_of_the_residuals(lyra, wav_S, features_TD):
    residual_TD, nearest = torch.from_numpy(features_TD), []
    for codebook_ED in lyra.codebooks:
        codes_T = (residual_TD[:, None] - codebook_ED).square().sum(dim=-1).argmin(dim=1)
        residual_TD = residual_TD - codebook_ED[codes_T]
        nearest.append(codes_T)
    assert torch.equal(lyra.encode(wav_S, 16000).tokens_BTK[0], torch.stack(nearest, dim=1))


def test_the_sum_of_the_vectors_is_what_the_quantizer_decodes_to(lyra):
    decode = open_network(lyra.files[QUANTIZER]).get_signature_runner("decode")
    codes_TK = torch.randint(16, (20, 46), generator=torch.Generator().manual_seed(0))
    for n_levels in (1, 8, 46):
        filled_TK = np.full((20, 46), -1, dtype=np.int32)
        filled_TK[:, :n_levels] = codes_TK[:, :n_levels]
        direct = [decode(encoding_indices=row.reshape(46, 1, 1))["output_0"].reshape(-1) for row in filled_TK]
        assert np.array_equal(lyra.latents(codes_TK[:, :n_levels]).numpy(), np.stack(direct))


def test_decoding_is_the_published_decoder_frame_by_frame(lyra, wav_S):
    codes = lyra.encode(wav_S, 16000)
    network = StatefulNetwork(lyra.files[DECODER], 64)
    direct = np.concatenate([network(latent_D) for latent_D in lyra.latents(codes.tokens_BTK[0]).numpy()])
    assert np.array_equal(lyra.decode(codes)[0].numpy(), direct.clip(-1, 1))


def test_packed_levels_are_pairs_and_decode_to_the_same_audio(lyra, packed, wav_S):
    codes, pairs = lyra.encode(wav_S, 16000), packed.encode(wav_S, 16000)
    assert torch.equal(unpack(pairs.tokens_BTK[0]), codes.tokens_BTK[0])
    assert torch.equal(lyra.decode(codes), packed.decode(pairs))
    assert packed.codebook_sizes == (256,) * 23
    assert packed.identity.bits_per_second == lyra.identity.bits_per_second == 9200
    vectors = [codebook_ED[code] for codebook_ED, code in zip(packed.codebooks, pairs.tokens_BTK[0, 7], strict=True)]
    torch.testing.assert_close(sum(vectors), lyra.latents(codes.tokens_BTK[0, 7:8])[0])
    with pytest.raises(InputError, match=r'"lyra-v2".*"lyra-v2-packed"'):
        packed.decode(codes)


def test_a_recording_starts_from_the_same_state_every_time(lyra, wav_S):
    first = lyra.encode(wav_S, 16000)
    assert torch.equal(lyra.encode(wav_S, 16000).tokens_BTK, first.tokens_BTK)
    assert torch.equal(lyra.decode(first), lyra.decode(first))


def test_later_samples_change_no_earlier_code_and_earlier_audio_is_final(lyra, wav_S):
    changed_S = wav_S.clone()
    changed_S[30 * HOP :] *= -0.5
    before, after = lyra.encode(wav_S, 16000), lyra.encode(changed_S, 16000)
    assert torch.equal(before.tokens_BTK[:, :30], after.tokens_BTK[:, :30])
    assert not torch.equal(before.tokens_BTK[:, 30], after.tokens_BTK[:, 30])
    assert torch.equal(lyra.decode(before)[:, : 30 * HOP], lyra.decode(after)[:, : 30 * HOP])


@pytest.fixture
def copied(tmp_path):
    for name in FILES:
        shutil.copyfile(FILES_FOLDER / name, tmp_path / name)
    return tmp_path


def test_a_config_beside_the_files_chooses_packed_levels(copied):
    (copied / "config.json").write_text(json.dumps({"kind": "lyra", "packed": True}))
    assert load_codec(copied, levels=4).codebook_sizes == (256,) * 4
    (copied / "config.json").write_text(json.dumps({"kind": "lyra", "packed": "yes"}))
    with pytest.raises(InputError, match=r'"packed".*true or false'):
        load_codec(copied)


def test_folders_that_are_not_whole_are_refused(copied):
    with pytest.raises(InputError, match="levels=47"):
        load_codec(copied, levels=47)
    (copied / DECODER).write_bytes((copied / ENCODER).read_bytes())
    with pytest.raises(InputError, match="damaged"):
        load_codec(copied)
    (copied / DECODER).write_bytes(b"no network")
    with pytest.raises(InputError, match="damaged"):
        load_codec(copied)
    (copied / DECODER).unlink()
    with pytest.raises(InputError, match=f"no {DECODER}"):
        load_codec(copied)


def test_other_files_than_those_described_are_refused(copied):
    LyraCodec.open(copied).save(copied)
    (copied / DECODER).write_bytes((copied / DECODER).read_bytes() + b" ")
    with pytest.raises(InputError, match="damaged: its weights have hash"):
        load_codec(copied)


def test_a_missing_library_is_named(lyra, monkeypatch):
    def refuse(name: str):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(InputError, match=r"hocket\[lyra\]"):
        open_network(lyra.files[ENCODER])


def test_another_device_is_refused(lyra):
    assert lyra.to("cpu") is lyra
    with pytest.raises(InputError, match="CPU only"):
        lyra.to("cuda")
