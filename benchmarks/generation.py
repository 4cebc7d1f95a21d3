"""Milliseconds a step of cached generation: hocket against transformers' MusicGen, and against reading the weights.

    peer           what runs                                                     feed-forward      hocket's, same bytes
    forward loop   the decoder with its cache, and one draw from its logits      2 x 256 x 1,024   3 x 256 x 683
    generate       `MusicgenForConditionalGeneration.generate`, no text, which   2 x 256 x 1,024   3 x 256 x 853
                   attends to an empty condition: 2 more matrices a layer are
                   read at each step
    reading        each matrix of the step is summed (`sum`) once a step: what
                   one thread reads from memory or cache, whichever holds them

Width 256, 4 layers, 4 heads, 4 codebooks of 2,048, batch 1, float32, one thread, sampled at temperature 1; hocket by
`Generator.sample`, neither with a codec. And at 45 and 109 million weights a step (8 layers of width 640 and 1,024)
against reading alone: what a step does besides reading hardly grows with the model.
"""

from collections.abc import Callable

import torch
from transformers import EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, T5Config
from transformers import MusicgenForCausalLM as MusicgenDecoder
from transformers import MusicgenForConditionalGeneration as Musicgen

from benchmarks.timing import Seconds, heading, taking_turns, timed
from hocket.codec import CodecIdentity
from hocket.inference import Generator, Request, Sampling
from hocket.interleave import load_layout
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary

STEPS, LARGE_STEPS, LEVELS, ENTRIES = 200, 120, 4, 2048
LARGE = ((640, 10, 1707), (1024, 16, 2730))  # width, heads, feed-forward
FLOOR = 0.85
LOOP, GENERATE = "MusicGen, forward loop", "MusicGen, generate"


def build(dim: int, n_layers: int, n_heads: int, ffn_dim: int) -> Model:
    """An untrained model without QK norm, as the peer; it ends once in 2,049 draws, and the seed avoids it."""
    identity = CodecIdentity(
        name="none", revision="", weight_hash="", sample_rate=16000, hop=320, codebook_sizes=(ENTRIES,) * LEVELS
    )
    vocabulary = Vocabulary.build(None, {"audio": identity.codebook_sizes})
    config = ModelConfig(
        dim=dim,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        ffn_dim=ffn_dim,
        qk_norm=False,
        context=2 * STEPS,
    )
    model = Model.build(config, vocabulary, load_layout("delay", LEVELS), identity)
    model.head.weight.data[vocabulary.id("<end.audio>")] = 0
    return model


def sample(model: Model, steps: int) -> Callable[[], Seconds]:
    generator = Generator(model)
    request, sampling = Request(limits={"audio": steps - LEVELS}), Sampling()

    def run() -> None:
        assert generator.sample([request], sampling)[0].steps == steps, "the document ended early"

    return timed(run)


def read(model: Model, steps: int) -> Callable[[], Seconds]:
    """Reads what a step reads, as often as there are steps."""
    weights = matrices(model)

    @torch.inference_mode()
    def run() -> None:
        for _ in range(steps):
            for weight in weights:
                weight.sum()

    return timed(run)


def matrices(model: Model) -> list[torch.Tensor]:
    """The matrices of a step; of the embeddings it reads a few rows."""
    return [w.detach() for name, w in model.named_parameters() if w.dim() > 1 and "embedding" not in name]


def decoder_config() -> MusicgenDecoderConfig:
    return MusicgenDecoderConfig(
        vocab_size=ENTRIES,
        hidden_size=256,
        num_hidden_layers=4,
        ffn_dim=1024,
        num_attention_heads=4,
        num_codebooks=LEVELS,
        max_position_embeddings=2 * STEPS,
        pad_token_id=ENTRIES,
        bos_token_id=ENTRIES,
    )


def forward_loop() -> Callable[[], Seconds]:
    model = MusicgenDecoder(decoder_config()).eval()

    @torch.inference_mode()
    def run() -> None:
        ids, cache = torch.full((LEVELS, 1), ENTRIES), None
        for _ in range(STEPS):
            out = model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            probabilities = torch.softmax(out.logits[:, -1].float(), dim=-1)
            ids = torch.multinomial(probabilities, 1)

    return timed(run)


def generate() -> Callable[[], Seconds]:
    """MusicGen's own generation, whose codec is replaced by nothing."""
    text = T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    audio = EncodecConfig(codebook_size=ENTRIES, num_filters=4, hidden_size=16, codebook_dim=16)
    config = MusicgenConfig(
        text_encoder=text.to_dict(), audio_encoder=audio.to_dict(), decoder=decoder_config().to_dict()
    )
    model = Musicgen(config).eval()
    settings = model.generation_config
    settings.pad_token_id = settings.bos_token_id = settings.decoder_start_token_id = ENTRIES
    settings.do_sample, settings.guidance_scale, settings.max_new_tokens = True, None, STEPS - 1
    inputs, made = model.get_unconditional_inputs(num_samples=1), []
    inputs["guidance_scale"] = None

    def keep(codes, *_args, **_kwargs):
        made.append(codes.shape[-1])
        return type("Audio", (), {"audio_values": torch.zeros(1, 1, 1)})()

    model.audio_encoder.decode = keep  # type: ignore

    def run() -> None:
        model.generate(**inputs)
        assert made[-1] >= STEPS - LEVELS - 1, f"{made[-1]} frames"

    return timed(run)


def main(rounds: int = 5) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for peer, make, ffn_dim in ((LOOP, forward_loop, 683), (GENERATE, generate, 853)):
        model = build(256, 4, 4, ffn_dim)
        compare(model, STEPS, rounds, "d=256 x 4 layers, 4 codebooks of 2,048", {peer: make()})
    for dim, n_heads, ffn_dim in LARGE:
        compare(build(dim, 8, n_heads, ffn_dim), LARGE_STEPS, rounds, f"d={dim} x 8 layers, 4 codebooks of 2,048", {})


def compare(model: Model, steps: int, rounds: int, title: str, peers: dict[str, Callable[[], Seconds]]) -> None:
    candidates = {"hocket": sample(model, steps), "reading the weights": read(model, steps)} | peers
    found = taking_turns(candidates, rounds)
    size = sum(w.nbytes for w in matrices(model)) / 1e6
    print(heading(f"generation, ms a step, {title}, batch 1, {size:.0f} MB read a step"))
    for name, seconds in found.items():
        wall, processor = (s / steps * 1e3 for s in seconds)
        print(f"  {name:<24}{wall:8.2f} ms   {processor:8.2f} ms of processor time")
    ours, floor = found["hocket"], found["reading the weights"]
    for peer in peers:
        ratio = [theirs / mine for theirs, mine in zip(found[peer], ours, strict=True)]
        print(f"  {peer} / hocket {ratio[0]:.2f} (processor time {ratio[1]:.2f}), wanted 1.8")
    share = [read / mine for read, mine in zip(floor, ours, strict=True)]
    print(f"  reading / hocket {share[0]:.2f} (processor time {share[1]:.2f}), wanted {FLOOR} of large models\n")
