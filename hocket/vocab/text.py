"""Text tokenizers behind one small interface: `tokenizers` files and `sentencepiece` models.

`train_bpe` trains a byte-level BPE (Sennrich et al., 2016; bytes as in GPT-2), so every string has ids and decodes to
itself. Neither kind adds special tokens of its own here: begin, end and padding belong to the `Vocabulary`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from hocket.errors import InputError

SMALLEST_BPE = 256  # one entry for each byte


class TextTokenizer(ABC):
    """Maps text to ids in `[0, size)` and back."""

    file_name: str
    """What the tokenizer is called inside a saved vocabulary's folder."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of ids, those included that the tokenizer never emits."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without any special token."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, on all cores where the library can."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`."""

    @abstractmethod
    def serialized(self) -> bytes:
        """The file that `load_tokenizer` reads."""

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.serialized()).hexdigest()[:16]

    def save(self, folder: str | Path) -> Path:
        path = Path(folder) / self.file_name
        path.write_bytes(self.serialized())
        return path


class HuggingFaceTokenizer(TextTokenizer):
    """A tokenizer of the `tokenizers` library, as every Hugging Face text model carries one."""

    file_name = "tokenizer.json"

    def __init__(self, tokenizer: tokenizers.Tokenizer):
        if tokenizer.truncation or tokenizer.padding:  # text is whole: length is the business of packing
            tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())
            tokenizer.no_truncation()
            tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._size = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @property
    def size(self) -> int:
        return self._size

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)

    def serialized(self) -> bytes:
        return self._tokenizer.to_str().encode()


class SentencePieceTokenizer(TextTokenizer):
    """A `sentencepiece` model (unigram or BPE)."""

    file_name = "tokenizer.model"

    def __init__(self, model: bytes):
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @property
    def size(self) -> int:
        return self._processor.GetPieceSize()

    def encode(self, text: str) -> list[int]:
        return self._processor.EncodeAsIds(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self._processor.EncodeAsIds(list(texts)) if texts else []

    def decode(self, ids: Iterable[int]) -> str:
        return self._processor.DecodeIds([int(i) for i in ids])

    def serialized(self) -> bytes:
        return self._model


def train_bpe(texts: Iterable[str], size: int) -> HuggingFaceTokenizer:
    """A byte-level BPE of at most `size` entries, the 256 bytes among them.

    Fewer come out where the texts have fewer pairs to merge.

    Raises:
        InputError: `size` is below 256.
    """
    if size < SMALLEST_BPE:
        raise InputError(f"a byte-level BPE needs at least {SMALLEST_BPE} entries, not {size}")
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts, trainer)
    return HuggingFaceTokenizer(tokenizer)


def load_tokenizer(path: str | Path) -> TextTokenizer:
    """Loads `tokenizer.json` (or a folder that has one) or a sentencepiece `.model` file.

    Raises:
        InputError: nothing is there, or it is neither of the two.
    """
    path = Path(path)
    if path.is_dir():
        names = (HuggingFaceTokenizer.file_name, SentencePieceTokenizer.file_name)
        found = [path / name for name in names if (path / name).exists()]
        if not found:
            raise InputError(f"{path} holds no text tokenizer: neither tokenizer.json nor tokenizer.model is there")
        path = found[0]
    if not path.exists():
        raise InputError(f"there is no text tokenizer at {path}; give a tokenizer.json or a sentencepiece .model file")
    try:
        if path.suffix == ".model":
            return SentencePieceTokenizer(path.read_bytes())
        return HuggingFaceTokenizer(tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8")))
    except Exception as error:  # both libraries raise bare Exception or RuntimeError for a file of another kind
        raise InputError(f"{path} is no text tokenizer that can be read: {error}") from error
