"""Stream transforms: text on the audio clock and back, runs of equal frames and back."""

import itertools
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hocket.errors import InputError
from hocket.interleave.transforms import (
    align_text,
    deduplicate,
    end_of_pad_code,
    pad_code,
    reduplicate,
    unalign_text,
    words_within,
)
from hocket.vocab import train_bpe

ROWS = 100
PAD, END = pad_code(ROWS), end_of_pad_code(ROWS)
MIMI = Fraction(25, 2)
RATES = [MIMI, Fraction(50), Fraction(44100, 512), 75, 12.5, Decimal("21.533")]
rates = st.sampled_from(RATES)
tokens = st.lists(st.integers(0, ROWS - 1), max_size=4)
starts = st.integers(0, 20_000).map(lambda milliseconds: milliseconds / 1000)
word_lists = st.lists(st.tuples(tokens, starts), max_size=30).map(lambda words: sorted(words, key=lambda word: word[1]))
code_arrays = st.tuples(st.integers(1, 4), st.lists(st.integers(0, 2), max_size=60))

# Words of LJSpeech's LJ001-0079 with start and stop in seconds, as Whisper tiny.en (faster-whisper) times them.
SPOKEN = [
    ("Castleon's", 0.0, 0.82), ("type", 0.82, 1.04), ("is", 1.04, 1.36), ("clear", 1.36, 1.72), ("and", 1.72, 2.04),
    ("neat", 2.04, 2.42), ("and", 2.42, 3.02), ("fairly", 3.02, 3.4), ("well", 3.4, 3.7), ("designed.", 3.7, 4.08),
]  # fmt: skip


def long_enough(words, rate) -> int:
    """Frames in which the words fit however they push each other."""
    last = math.floor(Fraction(str(words[-1][1])) * Fraction(str(rate))) if words else 0
    return last + sum(len(word[0]) for word in words) + 1


def placed_one_by_one(words, rate, n_frames: int) -> list[int]:
    """The same rule, a frame at a time: what waits in the queue goes out first."""
    codes, free = [PAD] * n_frames, 0
    for spoken, start in words:
        begin = max(math.floor(Fraction(str(start)) * Fraction(str(rate))), free)
        if spoken and begin and codes[begin - 1] == PAD:
            codes[begin - 1] = END
        codes[begin : begin + len(spoken)] = spoken
        free = max(free, begin + len(spoken)) if spoken else free
    return codes


def test_words_by_hand():
    words = [([5, 6, 7], 0.2, 0.28), ([8], 0.3, 0.5), ([9, 4], 0.72, 0.9)]
    codes_T1 = align_text(words, MIMI, 12, ROWS)
    assert codes_T1.shape == (12, 1)
    assert codes_T1.dtype == np.int64
    assert codes_T1[:, 0].tolist() == [PAD, END, 5, 6, 7, 8, PAD, PAD, END, 9, 4, PAD]


def test_a_word_at_frame_0_or_right_behind_another_has_no_end_of_pad():
    assert align_text([([1], 0), ([2], Fraction(2, 25))], MIMI, 3, ROWS)[:, 0].tolist() == [1, 2, PAD]
    assert align_text([([1], 0), ([2], 0.16)], MIMI, 3, ROWS)[:, 0].tolist() == [1, END, 2]


def test_words_that_start_together_queue_up():
    words = [([1, 2], 0.0), ([3], 0.0), ([], 0.05), ([4, 5], 0.1), ([6], 0.48)]
    assert align_text(words, MIMI, 8, ROWS)[:, 0].tolist() == [1, 2, 3, 4, 5, END, 6, PAD]


def test_a_start_means_the_decimal_number_that_it_is_written_as():
    """0.24 * 12.5 is 2.9999999999999996 for the nearest binary number."""
    for start in (0.24, np.float32(0.24), Decimal("0.24"), Fraction(6, 25)):
        assert align_text([([7], start)], MIMI, 4, ROWS)[:, 0].tolist() == [PAD, PAD, END, 7]


def test_no_words_are_all_pad():
    assert align_text([], MIMI, 3, ROWS)[:, 0].tolist() == [PAD] * 3
    assert align_text([([], 99.0)], MIMI, 3, ROWS)[:, 0].tolist() == [PAD] * 3
    assert align_text([], MIMI, 0, ROWS).shape == (0, 1)


@given(word_lists, rates)
def test_placing_all_words_at_once_equals_placing_them_one_by_one(words, rate):
    n_frames = long_enough(words, rate)
    assert align_text(words, rate, n_frames, ROWS)[:, 0].tolist() == placed_one_by_one(words, rate, n_frames)


@given(word_lists, rates)
def test_no_token_is_lost_and_none_comes_before_its_word(words, rate):
    back_N, frame_N = unalign_text(align_text(words, rate, long_enough(words, rate), ROWS), ROWS)
    assert back_N.tolist() == [token for word in words for token in word[0]]
    earliest = [math.floor(Fraction(str(start)) * Fraction(str(rate))) for spoken, start in words for _ in spoken]
    assert (frame_N >= np.array(earliest, dtype=int)).all()
    assert (np.diff(frame_N) > 0).all()


@given(word_lists, rates)
def test_aligning_again_by_the_times_of_the_tokens_changes_nothing(words, rate):
    codes_T1 = align_text(words, rate, long_enough(words, rate), ROWS)
    exact = Fraction(str(rate))
    token_N, frame_N = unalign_text(codes_T1, ROWS)
    again = [([token], frame / exact) for token, frame in zip(token_N.tolist(), frame_N.tolist(), strict=True)]
    assert np.array_equal(align_text(again, rate, len(codes_T1), ROWS), codes_T1)


@given(word_lists, rates, st.integers(0, 300))
def test_words_within_a_length_are_the_most_that_fit(words, rate, n_frames):
    kept, n_left_out = words_within(words, rate, n_frames)
    assert kept == words[: len(words) - n_left_out]
    whole_T1 = align_text(words, rate, max(long_enough(words, rate), n_frames), ROWS)
    cut_T1 = align_text(kept, rate, n_frames, ROWS)
    n_tokens = sum(len(word[0]) for word in kept)
    assert unalign_text(cut_T1, ROWS)[1].tolist() == unalign_text(whole_T1, ROWS)[1][:n_tokens].tolist()
    if n_left_out:
        with pytest.raises(InputError, match=f"word {len(kept)} starts at .* but the audio has {n_frames} frames"):
            align_text(words, rate, n_frames, ROWS)


def test_real_words_come_back_with_their_times():
    bpe = train_bpe([word for word, *_ in SPOKEN], 300)
    words = [(bpe.encode(" " * (i > 0) + word), start, stop) for i, (word, start, stop) in enumerate(SPOKEN)]
    assert max(len(tokens) for tokens, *_ in words) > 1
    kept, n_left_out = words_within(words, Fraction(50), 200)
    tokens_N, frame_N = unalign_text(align_text(kept, Fraction(50), 200, bpe.size), bpe.size)
    assert n_left_out == 0
    assert bpe.decode(tokens_N) == " ".join(word for word, *_ in SPOKEN)
    first_W = np.cumsum([0, *(len(tokens) for tokens, *_ in words[:-1])])
    assert frame_N[first_W] / 50 == pytest.approx([start for _, start, _ in SPOKEN], abs=1 / 50)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([([1], 0.5), ([2], 0.4)], "word 1 starts at 0.4 s, before word 0 at 0.5 s; words must be in the order"),
        ([([1], -0.1)], "word 0 starts at -0.1 s; times count from 0 s"),
        ([([1], math.nan)], "the start of word 0 must be a number, not nan"),
        ([([1], 0.0), ([2], math.inf)], "the start of word 1 must be a number, not inf"),
        ([([1], 0.3, 0.2)], "word 0 stops at 0.2 s, before its start at 0.3 s"),
        ([([1, ROWS], 0.0)], "the words hold token 100; the text block ends at 99"),
        ([([-1], 0.0)], "the words hold token -1"),
        ([([1], 0.0), ([2, 3], 0.72)], "word 1 starts at 0.72 s and its last token would stand in frame 10, but the "),
        (
            [([1], 5.0)],
            "word 0 starts at 5.0 s and its last token would stand in frame 62, but the audio has 10 frames",
        ),
    ],
)
def test_words_that_cannot_be_placed_are_refused(words, message):
    with pytest.raises(InputError) as error:
        align_text(words, MIMI, 10, ROWS)
    assert message in str(error.value)


def test_a_frame_rate_is_above_zero():
    with pytest.raises(InputError, match="the frame rate must be above 0 Hz, not 0"):
        align_text([], 0, 10, ROWS)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_aligned_text_comes_back_from_torch_too(dtype):
    codes_T1 = align_text([([5, 6], 0.2), ([8], 0.6)], MIMI, 10, ROWS)
    tokens_N, frame_N = unalign_text(torch.from_numpy(codes_T1).to(dtype), ROWS)
    assert tokens_N.dtype == dtype
    assert tokens_N.tolist() == [5, 6, 8]
    assert frame_N.tolist() == [2, 3, 7]
    assert unalign_text(codes_T1.astype(np.uint16)[:, 0], ROWS)[0].tolist() == [5, 6, 8]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.array([[1, 2]]), "aligned text has one level, not 2"),
        (np.array([1.0]), r"aligned text must be integers \[frames, 1\] or \[frames\], not float64 \[1\]"),
        (
            np.array([1, ROWS + 2]),
            "over 100 text tokens holds the code 102; pad is 100 and end-of-pad, the greatest, 101",
        ),
        (torch.tensor([-1]), "holds the code -1"),
        (torch.tensor([1], dtype=torch.uint16), "torch selects no elements of uint16"),
    ],
)
def test_what_is_no_aligned_text_is_refused(codes, message):
    with pytest.raises(InputError, match=message):
        unalign_text(codes, ROWS)


@given(code_arrays, st.booleans(), st.booleans())
def test_runs_of_frames_are_made_one_and_back(shape, flat, as_torch):
    n_levels, values = shape
    codes = np.array(values[: len(values) // n_levels * n_levels], dtype=np.int64).reshape(-1, n_levels)
    codes = codes[:, 0] if flat else codes
    given_codes = torch.from_numpy(codes) if as_torch else codes
    runs, durations_N = deduplicate(given_codes)
    back = reduplicate(runs, durations_N)
    assert type(runs) is type(durations_N) is type(back) is type(given_codes)
    assert np.array_equal(np.asarray(back), codes)
    assert back.shape == codes.shape
    frames = np.asarray(runs).tolist()
    assert all(frame != following for frame, following in itertools.pairwise(frames))
    assert (durations_N > 0).all()
    assert durations_N.sum() == len(codes)


def test_runs_by_hand():
    runs, durations_N = deduplicate(np.array([[5, 1], [5, 1], [5, 2], [5, 1]], dtype=np.uint16))
    assert runs.tolist() == [[5, 1], [5, 2], [5, 1]]
    assert runs.dtype == np.uint16
    assert durations_N.tolist() == [2, 1, 1]
    units_N, durations_N = deduplicate(torch.tensor([5, 5, 5, 2, 2, 5]))
    assert units_N.tolist() == [5, 2, 5]
    assert durations_N.tolist() == [3, 2, 1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_runs_stay_on_the_gpu():
    codes_TK = torch.tensor([[1, 2], [1, 2], [3, 2]], device="cuda")
    runs, durations_N = deduplicate(codes_TK)
    assert runs.is_cuda
    assert durations_N.is_cuda
    assert torch.equal(reduplicate(runs, durations_N), codes_TK)


def test_what_are_no_runs_is_refused():
    with pytest.raises(InputError, match=r"codes must be integers \[frames, levels\] or \[frames\], not float32 \[2\]"):
        deduplicate(torch.zeros(2))
    with pytest.raises(InputError, match=r"durations must be integers \[2\], one a run, not int64 \[1\]"):
        reduplicate(torch.tensor([1, 2]), torch.tensor([1]))
    with pytest.raises(InputError, match="durations are frames, 0 or more, not -1"):
        reduplicate(np.array([1, 2]), np.array([1, -1]))
