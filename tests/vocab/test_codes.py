"""Codes to ids and back, in numpy and torch."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hocket.errors import InputError
from hocket.vocab import Vocabulary, train_bpe

TEXT = train_bpe(["ab"], 256)
VOCABULARY = Vocabulary.build(
    TEXT,
    {"audio": [7, 5, 300]},
    text_rows=300,
    share={"user": "audio"},
    tokens={"task": ["asr", "tts"]},
    reserved={"image": 64},
)


@given(st.sampled_from(VOCABULARY.all_streams), st.integers(0, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_ids_and_codes_are_inverse(stream, n_frames, seed, use_torch):
    sizes = VOCABULARY.sizes(stream)
    codes_TK = np.random.default_rng(seed).integers(0, sizes, (n_frames, len(sizes)))
    if stream == "aligned_text":
        codes_TK[(codes_TK >= 256) & (codes_TK < 300)] = 300
    given: Any = torch.tensor(codes_TK) if use_torch else codes_TK.astype(np.uint16)
    ids_TK = VOCABULARY.ids(stream, given)
    assert isinstance(ids_TK, torch.Tensor) == use_torch
    assert (np.asarray(ids_TK) == codes_TK + np.array(VOCABULARY.offsets(stream))).all()
    assert (np.asarray(VOCABULARY.codes(stream, ids_TK)) == codes_TK).all()


def test_some_levels_batches_and_single_levels():
    codes_BTK = np.full((2, 3, 3), 4)
    ids_BTK = VOCABULARY.ids("audio", codes_BTK)
    assert (VOCABULARY.ids("audio", codes_BTK[..., 1:], first_level=1) == ids_BTK[..., 1:]).all()
    assert (VOCABULARY.ids("audio", codes_BTK[..., :2]) == ids_BTK[..., :2]).all()
    assert VOCABULARY.ids("text", np.array([3, 4])).tolist() == [3, 4]
    assert VOCABULARY.codes("image", VOCABULARY.ids("image", torch.tensor([3, 4]))).tolist() == [3, 4]
    assert VOCABULARY.ids("audio", np.zeros((3, 0), dtype=int)).shape == (3, 0)
    assert (VOCABULARY.ids("user", codes_BTK) == ids_BTK).all()


def at(frame, level, value, like="audio"):
    codes_TK = np.zeros((4, len(VOCABULARY.sizes(like))), dtype=np.int64)
    codes_TK[frame, level] = value
    return codes_TK


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    ("stream", "codes", "sentence"),
    [
        ("audio", at(2, 1, 5), "^frame 2 of audio level 1 holds code 5; its codes go from 0 to 4$"),
        ("audio", at(3, 0, -1), "^frame 3 of audio level 0 holds code -1"),
        ("audio", at(1, 2, 300)[None], "^frame 1 of item 0 of audio level 2 holds code 300"),
        ("text", at(0, 0, 256, "text"), "^frame 0 of text level 0 holds code 256"),
        ("aligned_text", at(0, 0, 256, "text"), "holds code 256; its codes go from 0 to 255 and 300 to 301$"),
        ("task", at(0, 0, 2, "task"), "task level 0 holds code 2"),
        ("audio", np.zeros((2, 4), dtype=int), '"audio" has 3 levels; 4 from level 0 on are more'),
        ("audio", np.zeros((2, 3)), "whole numbers, not .*float64"),
        ("adio", np.zeros((2, 3), dtype=int), 'no stream "adio" .did you mean "audio"'),
    ],
)
def test_codes_that_are_none_are_refused_by_name(kind, stream, codes, sentence):
    with pytest.raises(InputError, match=sentence):
        VOCABULARY.ids(stream, kind(codes))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    ("token", "name"),
    [("<mask.audio.1>", "<mask.audio.1>"), ("<task.tts>", "<task.tts>"), (256, "<unused:256>"), (10**6, "id 1000000")],
)
def test_foreign_ids_are_refused_by_name(kind, token, name):
    ids_TK = VOCABULARY.ids("audio", np.zeros((4, 3), dtype=np.int64))
    ids_TK[3, 1] = VOCABULARY.id(token) if isinstance(token, str) else token
    with pytest.raises(InputError, match=f"^frame 3 of audio level 1 holds {name}, which is no code of it$"):
        VOCABULARY.codes("audio", kind(ids_TK))


def test_a_code_of_another_level_is_refused():
    ids_TK = VOCABULARY.ids("audio", np.zeros((4, 3), dtype=np.int64))[:, ::-1]
    with pytest.raises(InputError, match=r"frame 0 of audio level 0 holds audio\.2:0"):
        VOCABULARY.codes("audio", ids_TK)
