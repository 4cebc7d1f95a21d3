"""Units: fitting, applying, streams, folders, and what they tell about labels."""

import json
import math
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.cluster import MiniBatchKMeans

from hocket.codec import load_codec
from hocket.codec.units import UnitCodec, mutual_information, nearest, open_extractor, pooled
from hocket.codec.units.clusters import FrameSample, cluster
from hocket.codec.units.mfcc import BLOCK, Mfcc
from hocket.errors import InputError
from tests.codec.zoo.units import build_mfcc, build_units


@pytest.fixture(scope="module")
def fitted(speech):
    """Units of MFCC, fitted to real speech."""
    return UnitCodec.fit(Mfcc(), [(wav_S, 16000) for wav_S in speech], 20, name="fitted")


def test_applying_gives_what_scikit_learn_predicts(speech):
    features_ND = torch.cat([Mfcc().features(wav_S) for wav_S in speech])
    kmeans: Any = MiniBatchKMeans(30, random_state=0).fit(features_ND.numpy())
    units_N = nearest(features_ND, torch.from_numpy(kmeans.cluster_centers_).float())
    assert units_N.tolist() == kmeans.predict(features_ND.numpy()).tolist()


def test_of_equally_near_centroids_the_first_is_taken():
    centroids_ED = torch.tensor([[3.0, 0.0], [1.0, 1.0], [1.0, 1.0], [-1.0, 1.0]])
    assert nearest(torch.tensor([[1.0, 2.0], [0.0, 5.0], [3.0, 0.0]]), centroids_ED).tolist() == [1, 1, 0]


def test_fitting_reports_what_it_found(fitted, speech):
    codec, report = fitted
    features_ND = torch.cat([Mfcc().features(wav_S) for wav_S in speech])
    units_N = nearest(features_ND, codec.codebooks[0])
    distances_N = (features_ND - codec.codebooks[0][units_N]).square().sum(1)
    assert (report.clips, report.frames, report.sampled_frames) == (6, len(features_ND), len(features_ND))
    assert report.inertia == pytest.approx(float(distances_N.mean()), rel=1e-4)
    assert report.used_clusters == len(units_N.unique())
    assert report.audio_seconds == pytest.approx(sum(map(len, speech)) / 16000)
    assert 0.3 < report.explained < 1
    assert 2 < report.unit_entropy <= math.log2(20)


def test_fitting_is_reproducible_and_learns_more_with_more_clusters(fitted, speech):
    clips = [(wav_S, 16000) for wav_S in speech]
    again, few = UnitCodec.fit(Mfcc(), clips, 20), UnitCodec.fit(Mfcc(), clips, 4)
    assert torch.equal(again[0].codebooks[0], fitted[0].codebooks[0])
    assert few[1].explained < fitted[1].explained


def test_scaled_features_give_units_that_no_loud_feature_rules(speech, tmp_path):
    clips = [(wav_S, 16000) for wav_S in speech]
    codec, _ = UnitCodec.fit(Mfcc(), clips, 20, scaled=True)
    features_ND = torch.cat([Mfcc().features(wav_S) for wav_S in speech])
    scaled_ND = features_ND / features_ND.std(dim=0, correction=0)
    assert torch.allclose(codec.codebooks[0], cluster(scaled_ND, 20), atol=1e-4)
    units_T = codec.encode(speech[0], 16000).tokens_BTK[0, :, 0]
    assert (units_T == nearest(scaled_ND, codec.codebooks[0])[: len(units_T)]).float().mean() > 0.99
    codec.save(tmp_path)
    again = load_codec(tmp_path)
    assert again.identity == codec.identity
    assert torch.equal(again.encode(speech[0], 16000).tokens_BTK[0, :, 0], units_T)


def test_fewer_frames_than_clusters_are_refused(speech):
    with pytest.raises(InputError, match="100 clusters need as many frames, and at least 2; the audio gave 25"):
        UnitCodec.fit(Mfcc(), [(speech[0][:8000], 16000)], 100)
    with pytest.raises(InputError, match="the audio gave 0"):
        UnitCodec.fit(Mfcc(), [], 2)


def test_a_sample_of_frames_is_uniform_and_bounded():
    sample, most = FrameSample(500, seed=1), 0
    for start in range(0, 10_000, 100):
        sample.add(torch.arange(start, start + 100.0)[:, None])
        most = max(most, sum(map(len, sample.kept)))
    frames_ND = sample.frames()
    assert (len(frames_ND), sample.n_seen) == (500, 10_000)
    assert most <= 1000
    assert len(frames_ND.unique()) == 500
    assert abs(float(frames_ND.mean()) - 5000) < 4 * 10_000 / math.sqrt(12 * 500)


def test_centroids_of_another_width_are_refused():
    with pytest.raises(InputError, match=r"centroids \[5, 7\] do not fit features of width 39 of mfcc"):
        UnitCodec(Mfcc(), torch.zeros(5, 7))


def test_the_identity_is_one_semantic_level_at_an_exact_rate(fitted):
    identity = fitted[0].identity
    assert (identity.levels, identity.codebook_sizes, identity.semantic_level) == (1, (20,), 0)
    assert (identity.frame_rate.numerator, identity.frame_rate.denominator) == (50, 1)
    assert not fitted[0].can_decode


@pytest.mark.parametrize("piece", [77, 320, 1000, BLOCK * 320, BLOCK * 1000])
def test_mfcc_units_stream_over_many_blocks_bit_for_bit(piece, fitted, speech):
    codec, wav_S = fitted[0], torch.cat(speech)[: 320 * (4 * BLOCK + 5) + 33]
    stream = codec.stream_encoder()
    codes = [stream.push(piece_S) for piece_S in wav_S.split(piece)]
    n_early = sum(map(len, codes))
    assert n_early == (len(wav_S) - codec.identity.delay) // 320
    assert torch.equal(torch.cat([*codes, stream.finish()]), codec.encode(wav_S, 16000).tokens_BTK[0])


@pytest.mark.parametrize("n_samples", [0, 320, 640, 1000, 16000])
def test_slower_units_are_of_the_mean_of_their_frames(n_samples, speech):
    inner, wav_S = Mfcc(), speech[0][:n_samples]
    frames, slow = inner.features(wav_S), pooled(inner, 3)
    wanted = [frames[first : first + 3].mean(dim=0) for first in range(0, len(frames), 3)]
    assert torch.equal(slow.features(wav_S), torch.stack(wanted) if wanted else torch.zeros(0, inner.width))
    assert pooled(inner, 1) is inner


def test_slower_units_come_back_from_their_folder(speech, tmp_path):
    slow, _ = UnitCodec.fit(pooled(Mfcc(), 2), [(wav_S, 16000) for wav_S in speech], 20)
    slow.save(tmp_path)
    again = load_codec(tmp_path)
    assert again.identity == slow.identity
    assert again.frame_rate == 25
    assert torch.equal(again.encode(speech[0], 16000).tokens_BTK, slow.encode(speech[0], 16000).tokens_BTK)
    with pytest.raises(InputError, match="cannot stream"):
        again.stream_encoder()


def test_a_folder_is_whole_without_the_network_it_was_fitted_with(tmp_path, speech):
    folder = build_units("hubert", 2, tmp_path)
    codes = load_codec(folder).encode(speech[0], 16000)
    (tmp_path / "source").rename(tmp_path / "gone")
    assert torch.equal(load_codec(folder).encode(speech[0], 16000).tokens_BTK, codes.tokens_BTK)


@pytest.mark.parametrize("file", ["centroids.safetensors", "extractor/model.safetensors"])
def test_changed_weights_are_refused(file, tmp_path):
    folder = build_units("hubert", 1, tmp_path)
    tensors = load_file(folder / file)
    name = next(iter(tensors))
    save_file(tensors | {name: tensors[name] + 1}, folder / file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="is damaged: its weights have hash"):
        load_codec(folder)


def test_a_change_of_normalisation_is_refused(tmp_path):
    """It changes every unit, though no weight."""
    folder = build_units("hubert", 1, tmp_path)
    file = folder / "extractor" / "preprocessor_config.json"
    file.write_text(file.read_text().replace('"do_normalize": true', '"do_normalize": false'))
    with pytest.raises(InputError, match="is damaged: its weights have hash"):
        load_codec(folder)


@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_damaged_centroids_are_refused(damage, tmp_path):
    folder = build_mfcc(tmp_path)
    file = folder / "centroids.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:100] if damage == "cut" else b"")
    if damage == "missing":
        file.unlink()
    with pytest.raises(InputError, match="are damaged, their files do not fit"):
        load_codec(folder)


def test_a_description_that_lacks_something_is_refused(tmp_path):
    file = build_mfcc(tmp_path) / "config.json"
    settings = json.loads(file.read_text())
    del settings["identity"]
    file.write_text(json.dumps(settings))
    with pytest.raises(InputError, match="are damaged, their files do not fit: 'identity'"):
        load_codec(tmp_path)


def test_more_than_one_level_cannot_be_had(tmp_path):
    with pytest.raises(InputError, match="has levels 1 to 1, so levels=2"):
        load_codec(build_mfcc(tmp_path), levels=2)


def test_units_that_are_the_labels_tell_all_and_unrelated_ones_nothing():
    labels_N = torch.arange(8).repeat(500)
    same = mutual_information(labels_N + 5, labels_N)
    assert same.mutual_information == pytest.approx(3)
    assert same.mutual_information_nats == pytest.approx(math.log(8))
    assert (same.purity, same.label_purity, same.units) == (1, 1, 8)
    assert same.explained == pytest.approx(1)
    assert same.above_chance > 2.9
    unrelated = mutual_information(torch.arange(4).repeat_interleave(1000), labels_N)
    assert unrelated.mutual_information == pytest.approx(0, abs=1e-9)
    assert unrelated.purity == pytest.approx(1 / 8)


def test_mutual_information_of_a_small_table():
    """Units 0 0 1 1, words a a a b: H(U) = 1, H(L) = .811, H(U, L) = 1.5."""
    found = mutual_information(torch.tensor([0, 0, 1, 1]), ["a", "a", "a", "b"])
    assert found.unit_entropy == pytest.approx(1)
    assert found.label_entropy == pytest.approx(0.8113, abs=1e-4)
    assert found.mutual_information == pytest.approx(0.3113, abs=1e-4)
    assert (found.purity, found.label_purity) == (0.75, 0.75)


def test_chance_keeps_the_frames_of_a_spoken_word_together():
    """Forty spoken words of ten frames; each has a unit of its own, so that units tell words by length alone."""
    segments_N = torch.arange(40).repeat_interleave(10)
    labels = [f"word {segment % 20}" for segment in segments_N.tolist()]
    together = mutual_information(segments_N, labels, segments_N)
    assert together.chance == pytest.approx(together.mutual_information)
    assert together.above_chance == pytest.approx(0)
    assert mutual_information(segments_N, labels).chance < together.chance - 1


def test_labels_that_do_not_fit_the_units_are_refused():
    with pytest.raises(InputError, match=r"3 labels for units \[2\]"):
        mutual_information(torch.tensor([0, 1]), ["a", "b", "c"])
    with pytest.raises(InputError, match="one label for each frame"):
        mutual_information(torch.zeros(0, dtype=torch.int64), [])


def test_clusters_of_silence_do_not_fail():
    with pytest.raises(InputError, match="need as many frames"):
        cluster(torch.zeros(1, 3), 2)
    assert open_extractor("mfcc", None).features(torch.zeros(3200)).isfinite().all()
