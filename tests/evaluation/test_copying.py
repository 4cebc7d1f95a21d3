"""A copied passage is found with its clip and place, by codes and by spectrum."""

import numpy as np
import pytest

from hocket.evaluation.copying import TrainingFrames, nearest_by_codes, nearest_by_spectrum

LEVELS = 2


@pytest.fixture
def clips():
    """Random clips of different lengths, one of them empty, one shorter than the windows."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 1024, (length, 8)).astype(np.uint16) for length in (40, 0, 7, 90, 33)]


def naive(passage_TF, clips, window, score):
    """Best score, clip, place in the clip, place in the passage, by comparing all windows of all clips."""
    places = [
        (score(passage_TF[t : t + window], clip[c : c + window]), number, c, t)
        for t in range(len(passage_TF) - window + 1)
        for number, clip in enumerate(clips)
        for c in range(len(clip) - window + 1)
    ]
    return max(places, key=lambda place: place[0])


@pytest.mark.parametrize("window", [1, 5, 20])
def test_codes_give_what_comparing_all_windows_gives(clips, window):
    rng = np.random.default_rng(1)
    passage_TK = rng.integers(0, 1024, (20, LEVELS))
    passage_TK[3:9] = clips[3][50:56, :LEVELS]
    found = nearest_by_codes(passage_TK, TrainingFrames(clips), window)
    wanted = naive(passage_TK, [clip[:, :LEVELS] for clip in clips], window, lambda a, b: float((a == b).mean()))
    assert found is not None
    assert found.score == pytest.approx(wanted[0])
    theirs = clips[found.clip][found.clip_frame :][:window, :LEVELS]
    assert (passage_TK[found.frame :][:window] == theirs).mean() == pytest.approx(found.score)


@pytest.mark.parametrize("window", [1, 5, 20])
def test_spectra_give_what_comparing_all_windows_gives(window):
    rng = np.random.default_rng(2)
    clips = [rng.normal(size=(length, 6)).astype(np.float32) for length in (30, 3, 25)]
    passage_TM = rng.normal(size=(22, 6)).astype(np.float32)

    def score(a, b):
        return -np.sqrt(((a - b) ** 2).mean(axis=1)).mean()

    found = nearest_by_spectrum(passage_TM, TrainingFrames(clips), window)
    wanted = naive(passage_TM, clips, window, score)
    assert found is not None
    assert (found.clip, found.clip_frame, found.frame) == wanted[1:]
    assert found.score == pytest.approx(wanted[0], abs=1e-4)


def test_a_planted_copy_is_found_with_its_clip_and_place(clips):
    rng = np.random.default_rng(3)
    passage_TK = rng.integers(0, 1024, (50, LEVELS))
    passage_TK[11:36] = clips[3][60:85, :LEVELS]
    found = nearest_by_codes(passage_TK, TrainingFrames(clips), 25)
    assert found is not None
    assert (found.score, found.clip, found.clip_frame, found.frame) == (1.0, 3, 60, 11)


def test_a_window_never_spans_two_clips(clips):
    passage_TK = np.concatenate([clips[3][-10:], clips[4][:10]])[:, :LEVELS]
    found = nearest_by_codes(passage_TK, TrainingFrames(clips), 20)
    assert found is not None
    assert found.score <= 0.6


def test_silence_does_not_count(clips):
    quiet = np.full((30, 8), 7, np.uint16)
    training = TrainingFrames([*clips, quiet])
    passage_TK = np.concatenate([quiet[:20], clips[0][5:25]])[:, :LEVELS]
    heard_T = np.repeat([False, True], 20)
    found = nearest_by_codes(passage_TK, training, 10, heard_T, least=1.0)
    assert found is not None
    assert (found.score, found.clip) == (1.0, 0)
    assert nearest_by_codes(passage_TK, training, 10, np.zeros(40, bool)) is None


def test_what_is_shorter_than_a_window_has_no_neighbour(clips):
    training = TrainingFrames(clips)
    assert nearest_by_codes(clips[0][:4], training, 5) is None
    assert nearest_by_codes(clips[0], training, 91) is None
    assert nearest_by_codes(np.zeros((100, 2), int), training, 91) is None
