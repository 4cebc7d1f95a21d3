import io

import pytest
import sentencepiece

from hocket.vocab import SentencePieceTokenizer, train_bpe

TEXTS = ["press one to mute or unmute yourself", "please hold the line", "grüße aus köln 你好"] * 4


@pytest.fixture(scope="session")
def bpe():
    return train_bpe(TEXTS, 300)


@pytest.fixture(scope="session")
def train_sentencepiece():
    """A function that trains a small model; its options are those of the sentencepiece trainer."""

    def train(**options) -> SentencePieceTokenizer:
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(TEXTS),
            model_writer=out,
            hard_vocab_limit=False,
            minloglevel=2,
            num_threads=1,
            **options,
        )
        return SentencePieceTokenizer(out.getvalue())

    return train
