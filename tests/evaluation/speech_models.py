"""Tiny random judges on disk, in the formats in which real ones come: Whisper, wav2vec 2 with CTC, WavLM, GPT-2."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Whitespace
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WavLMConfig,
    WavLMForXVector,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from hocket.codec.adapters.transformers_codec import quiet_transformers

LETTERS = "abcdefgh"
WORDS = ["<s>", "<unk>", "a", "b", "c"]
SPECIALS = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
CONVOLUTIONS: dict[str, Any] = {
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def make_config(kind: Any, **settings: Any) -> Any:
    """Configurations take more than they declare."""
    return kind(**settings)


def save(folder: Path, *parts: Any) -> Path:
    with quiet_transformers():
        for part in parts:
            part.save_pretrained(folder)
    return folder


def save_whisper(folder: Path) -> Path:
    """Of English alone; knows bytes."""
    vocabulary = {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = WhisperTokenizer(vocab={**vocabulary, SPECIALS[0]: len(vocabulary)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIALS[1:]})
    ids_of: Any = tokenizer.convert_tokens_to_ids(SPECIALS)
    end, start, *_, no_times = ids_of
    width = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_target_positions": 24}
    depth = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ids = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        make_config(WhisperConfig, vocab_size=len(tokenizer), **width, **depth, **ids)
    )
    model.proj_out.weight.data *= 50
    settings: Any = model.generation_config
    settings.suppress_tokens = settings.begin_suppress_tokens = None
    settings.no_timestamps_token_id, settings.is_multilingual = no_times, False
    return save(folder, model, WhisperProcessor(WhisperFeatureExtractor(), tokenizer))


def save_ctc(folder: Path, norm: str) -> Path:
    """norm: "group" is wav2vec 2 base, "layer" large, which knows masks."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {"<pad>": 0, "<unk>": 1, "|": 2} | {letter: i + 3 for i, letter in enumerate(LETTERS)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")
    config = make_config(
        Wav2Vec2Config,
        vocab_size=len(vocabulary),
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
        **SMALL,
        **CONVOLUTIONS,
    )
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(config)
    model.lm_head.weight.data *= 20
    return save(folder, model, Wav2Vec2Processor(extractor, tokenizer))


def save_wavlm(folder: Path) -> Path:
    sizes: dict[str, Any] = {"tdnn_dim": (16, 16), "tdnn_kernel": (3, 1), "tdnn_dilation": (1, 1)}
    torch.manual_seed(0)
    model = WavLMForXVector(
        make_config(WavLMConfig, xvector_output_dim=8, num_labels=2, **sizes, **SMALL, **CONVOLUTIONS)
    )
    return save(folder, model, Wav2Vec2FeatureExtractor())


def save_gpt2(folder: Path) -> Path:
    """Knows the words a, b and c."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), n_positions=12, n_embd=16, n_layer=1, n_head=2))
    model.transformer.wte.weight.data *= 20
    return save(folder, model, PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>"))


def save_utmos(file: Path) -> Path:
    """Stands for UTMOS: `[B, S]` to a score each, louder is better."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Loudness()).save(str(file))
    return file


class Loudness(torch.nn.Module):
    def forward(self, wav_BS: torch.Tensor) -> torch.Tensor:
        return 1 + wav_BS.abs().mean(dim=1)
