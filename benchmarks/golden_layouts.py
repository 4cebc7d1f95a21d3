"""Golden files for the layouts: what public implementations make of known codes, so that tests need none of them.

    python -m benchmarks.golden_layouts {audiocraft|transformers|moshi} OUT

writes `OUT/PEER_PATTERN.json`; `tests/interleave/golden/` holds what came out. What must be installed:

    audiocraft     pip install --no-deps audiocraft==1.3.0   (beside torch: only its file of patterns is run)
    transformers   5.23.0, which hocket needs anyway
    moshi          pip install --no-deps moshi==0.2.13, and einops safetensors huggingface_hub sentencepiece tqdm

Code of frame t, level k is the number t * K + k. A file gives the peer's name, version and functions, a legend of the
letters that stand for its special tokens, and cases. A case's `sequence` has a line for each level and a word for each
step, a number or a letter; `reverted` is what the peer's inverse makes of it. audiocraft's masks, which say where codes
stand, are compared with the letters here: a disagreement stops the script. audiocraft cannot build a sequence of no
frames; the others can.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

FRAMES, LEVELS = (1, 2, 7, 31), (1, 2, 4, 8, 9)
MISSING = "audiocraft is missing: pip install --no-deps audiocraft==1.3.0"
SPECIAL = 2048  # above every code of every case
Case = dict[str, Any]


def main() -> None:
    peers = {"audiocraft": audiocraft, "transformers": transformers, "moshi": moshi}
    if len(sys.argv) != 3 or sys.argv[1] not in peers:
        raise SystemExit(f"usage: python -m benchmarks.golden_layouts {{{'|'.join(peers)}}} OUT")
    peer, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for pattern, content in peers[peer]().items():
        head = {"peer": peer, "version": importlib.metadata.version(peer)}
        text = json.dumps(head | content, indent=1, ensure_ascii=False)
        (folder / f"{peer}_{pattern}.json").write_text(text + "\n", encoding="utf-8")
        print(f"{peer}_{pattern}.json: {len(content['cases'])} cases, {len(text) / 1e3:.0f} kB")


def known_codes(frames: int, levels: int) -> torch.Tensor:
    """Codes `[K, T]` of which no two are equal."""
    return torch.arange(frames * levels).view(frames, levels).T.contiguous()


def lines(grid_KS: torch.Tensor, legend: Mapping[str, int]) -> list[str]:
    """A line for each level, with letters for special tokens."""
    letters = {number: letter for letter, number in legend.items()}
    return [" ".join(letters.get(value, str(value)) for value in row) for row in grid_KS.tolist()]


def grid(frames: Iterable[int], levels: Iterable[int] = LEVELS) -> list[tuple[int, int]]:
    return [(n_frames, n_levels) for n_levels in levels for n_frames in frames]


def load_patterns() -> Any | None:
    """`audiocraft.modules.codebooks_patterns`, run alone: the package around it imports training libraries.

    None where audiocraft is not installed.
    """
    package = importlib.util.find_spec("audiocraft")
    if package is None or not package.submodule_search_locations:
        return None
    file = Path(package.submodule_search_locations[0]) / "modules" / "codebooks_patterns.py"
    spec = importlib.util.spec_from_file_location("codebooks_patterns", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def audiocraft() -> dict[str, dict]:
    patterns = load_patterns()
    if patterns is None:
        raise SystemExit(MISSING)

    def file(kind: str, settings: Callable[[int], Case | None], frames: Iterable[int] = FRAMES) -> dict:
        provider = getattr(patterns, kind)
        cases = [
            pattern_case(provider, n_frames, levels, wanted)
            for n_frames, levels in grid(frames)
            if (wanted := settings(levels)) is not None
        ]
        function = f"audiocraft.modules.codebooks_patterns.{kind}"
        return {"function": function, "legend": {"s": "the special token"}, "cases": cases}

    def several(least: int, settings: Callable[[int], Case]) -> Callable[[int], Case | None]:
        return lambda levels: settings(levels) if levels >= least else None

    delayed, unrolled, coarse = "DelayedPatternProvider", "UnrolledPatternProvider", "CoarseFirstPattern"
    return {
        "parallel": file("ParallelPatternProvider", lambda levels: {}),
        "delay": file(delayed, lambda levels: {}),
        "delay_stereo": file(delayed, lambda levels: {"delays": [k // 2 for k in range(levels)]}),
        "delay_acoustic": file(delayed, lambda levels: {"delays": [0, *[1] * (levels - 1)]}),
        "unrolled": file(unrolled, lambda levels: {}),
        "unrolled_partial": file(unrolled, several(2, lambda levels: {"flattening": [0, *[1] * (levels - 1)]})),
        "unrolled_partial_delayed": file(
            unrolled,
            several(2, lambda levels: {"flattening": [0, *[1] * (levels - 1)], "delays": [0, *[3] * (levels - 1)]}),
        ),
        "unrolled_delayed": file(unrolled, several(2, lambda levels: {"delays": list(range(levels))}), FRAMES[:3]),
        "coarse_first": file(coarse, several(2, lambda levels: {})),
        "coarse_first_delayed": file(coarse, several(2, lambda levels: {"delays": list(range(levels - 1))})),
        "musiclm": file("MusicLMPattern", lambda levels: {"group_by": 2} if levels % 2 == 0 else None),
    }


def pattern_case(provider: Callable, frames: int, levels: int, settings: Case) -> Case:
    pattern = provider(levels, **settings).get_pattern(frames)
    codes_1KT, legend = known_codes(frames, levels)[None], {"s": SPECIAL}
    built_1KS, _, mask_KS = pattern.build_pattern_sequence(codes_1KT, SPECIAL)
    assert torch.equal(mask_KS, built_1KS[0] != SPECIAL), "the mask is not where the codes are"
    reverted_1KT, _, known_KT = pattern.revert_pattern_sequence(built_1KS, SPECIAL)
    assert known_KT.all(), "the inverse lost codes"
    made = {"sequence": lines(built_1KS[0], legend), "reverted": lines(reverted_1KT[0], legend)}
    return {"frames": frames, "levels": levels, "settings": settings} | made


def transformers() -> dict[str, dict]:
    pattern = "transformers.models"
    return {
        "musicgen": {
            "function": f"{pattern}.musicgen.modeling_musicgen.MusicgenForCausalLM.build_delay_pattern_mask, "
            f"apply_delay_pattern_mask; the same of {pattern}.musicgen_melody",
            "legend": {"p": "pad, which the decoder starts with", "?": "to be predicted"},
            "cases": musicgen_cases(),
        },
        "dia": {
            "function": f"{pattern}.dia.processing_dia.DiaProcessor.build_indices, apply_audio_delay",
            "legend": {"b": "bos", "p": "pad", "e": "beyond the end, in the inverse"},
            "cases": dia_cases(),
        },
        "higgs_audio_v2": {
            "function": f"{pattern}.higgs_audio_v2.processing_higgs_audio_v2.HiggsAudioV2Processor."
            "build_delay_pattern, revert_delay_pattern",
            "legend": {"b": "bos of the audio stream", "e": "eos of the audio stream"},
            "cases": higgs_cases(),
        },
        "moshi": {
            "function": f"{pattern}.moshi.modeling_moshi.MoshiForConditionalGeneration.build_delay_pattern_mask, "
            "apply_delay_pattern_mask",
            "legend": {"b": "bos", "p": "pad", "?": "to be predicted"},
            "cases": moshi_mask_cases(),
        },
    }


def peer_class(model: str, kind: str, name: str) -> Any:
    return getattr(importlib.import_module(f"transformers.models.{model}.{kind}_{model}"), name)


def musicgen_cases() -> list[Case]:
    """Whole sequences (`prompt` is all frames) and the masks of prompts, mono and stereo.

    The classes give a sequence too short for their mask (fewer than levels - 1 frames) back undelayed: left out.
    """
    decoder = peer_class("musicgen", "modeling", "MusicgenForCausalLM")
    melody, cases = peer_class("musicgen_melody", "modeling", "MusicgenMelodyForCausalLM"), []
    for channels, all_levels in ((1, LEVELS), (2, (2, 4, 8))):
        for frames, levels in grid((0, *FRAMES), all_levels):
            delayed = levels // channels
            if frames < delayed - 1:
                continue
            for prompt in sorted({frames, frames // 2}):
                case = {"frames": frames, "levels": levels, "channels": channels, "prompt": prompt}
                made = musicgen_case(decoder, case, frames + delayed)
                assert made == musicgen_case(melody, case, frames + delayed), "the two classes disagree"
                cases.append(case | made)
    return cases


def musicgen_case(decoder: Any, case: Case, max_length: int) -> Case:
    levels, legend = case["levels"], {"p": SPECIAL, "?": -1}
    itself = types.SimpleNamespace(num_codebooks=levels, config=types.SimpleNamespace(audio_channels=case["channels"]))
    start_K1 = torch.full((levels, 1), SPECIAL)
    codes_KT = torch.cat([start_K1, known_codes(case["frames"], levels)[:, : case["prompt"]]], dim=1)
    _, mask_KS = decoder.build_delay_pattern_mask(itself, codes_KT, SPECIAL, max_length)
    made: Case = {"sequence": lines(mask_KS, legend)}
    if case["prompt"] == case["frames"]:
        applied_KS = decoder.apply_delay_pattern_mask(torch.full_like(mask_KS, -1), mask_KS)
        assert torch.equal(applied_KS, mask_KS), "the mask leaves cells open"
        made["reverted"] = lines(applied_KS[applied_KS != SPECIAL].view(levels, -1), legend)
    return made


def dia_cases() -> list[Case]:
    """As the processor calls it: one bos frame, the codes, and pad to make room for the largest delay."""
    processor, cases = peer_class("dia", "processing", "DiaProcessor"), []
    bos, pad, beyond = 1026, 1025, -1
    legend = {"b": bos, "p": pad, "e": beyond}
    for delays in ([0, 8, 9, 10, 11, 12, 13, 14, 15], [0, 1, 2, 3], [0, 1]):
        for frames in (0, *FRAMES):
            levels = len(delays)
            steps = 1 + frames + max(delays)
            codes_1TK = torch.full((1, steps, levels), pad)
            codes_1TK[0, 0], codes_1TK[0, 1 : 1 + frames] = bos, known_codes(frames, levels).T
            there = processor.build_indices(1, steps, levels, delays)
            back = processor.build_indices(1, steps, levels, delays, revert=True)
            built_1SK = processor.apply_audio_delay(codes_1TK, pad, bos, there)
            reverted_1SK = processor.apply_audio_delay(built_1SK, beyond, beyond, back)
            case = {"frames": frames, "levels": levels, "settings": {"delay_pattern": delays}}
            made = {"sequence": lines(built_1SK[0].T, legend), "reverted": lines(reverted_1SK[0].T, legend)}
            cases.append(case | made)
    return cases


def higgs_cases() -> list[Case]:
    """As the processor calls it: the codes between one frame of bos and one of eos."""
    processor, cases = peer_class("higgs_audio_v2", "processing", "HiggsAudioV2Processor"), []
    bos, eos = 1024, 1025
    itself, legend = types.SimpleNamespace(audio_stream_bos_id=bos, audio_stream_eos_id=eos), {"b": bos, "e": eos}
    for frames, levels in grid((0, *FRAMES)):
        ends_K1 = torch.ones(levels, 1, dtype=torch.long)
        codes_KT = torch.cat([bos * ends_K1, known_codes(frames, levels), eos * ends_K1], dim=1)
        built_KS = processor.build_delay_pattern(itself, codes_KT[None])[0]
        reverted_TK = processor.revert_delay_pattern(itself, built_KS.T)
        case = {"frames": frames, "levels": levels}
        cases.append(case | {"sequence": lines(built_KS, legend), "reverted": lines(reverted_TK.T, legend)})
    return cases


def moshi_mask_cases() -> list[Case]:
    """The masks of all frames and of half of them as a prompt, for two levels or more; one step more than frames."""
    model, cases = peer_class("moshi", "modeling", "MoshiForConditionalGeneration"), []
    bos, pad = SPECIAL, SPECIAL + 1
    for frames, levels in grid((0, *FRAMES), LEVELS[1:]):
        for prompt in sorted({frames, frames // 2}):
            codes_1KT = known_codes(frames, levels)[None, :, :prompt]
            _, mask_1KS = model.build_delay_pattern_mask(None, codes_1KT, bos, pad, frames + 1)
            case = {"frames": frames, "levels": levels, "prompt": prompt}
            cases.append(case | {"sequence": lines(mask_1KS[0], {"b": bos, "p": pad, "?": -1})})
    return cases


def moshi() -> dict[str, dict]:
    """The delays of the 7B model's configuration (text, 8 own and 8 user levels), and the same rule for K levels."""
    stub("sphn", "sounddevice")
    loaders, utils, tts = (importlib.import_module(f"moshi.models.{name}") for name in ("loaders", "lm_utils", "tts"))
    published = list(loaders._lm_kwargs["delays"])
    return {
        "delays": {
            "function": "moshi.models.tts._delayed, moshi.models.lm_utils._undelay_sequence",
            "legend": {"i": "the initial token"},
            "published": published,
            "cases": [
                delayed_case(tts._delayed, utils._undelay_sequence, frames, delays)
                for delays in [published, *([0, *[1] * (levels - 1)] for levels in LEVELS)]
                for frames in (0, *FRAMES)
            ],
        },
        "training": {
            "function": "moshi.models.lm_utils._delay_sequence, after the initial tokens as in LMModel.forward",
            "legend": {"i": "the initial token"},
            "published": published,
            "cases": [training_case(utils._delay_sequence, frames, published) for frames in (0, *FRAMES)],
        },
    }


def delayed_case(delayed: Callable, undelay: Callable, frames: int, delays: list[int]) -> Case:
    legend = {"i": SPECIAL}
    built_KS = delayed(known_codes(frames, len(delays)), delays, SPECIAL)
    reverted_1KS, _ = undelay(delays, built_KS[None], fill_value=SPECIAL)
    made = {"sequence": lines(built_KS, legend), "reverted": lines(reverted_1KS[0], legend)}
    return {"frames": frames, "levels": len(delays), "settings": {"delays": delays}} | made


def training_case(delay_sequence: Callable, frames: int, delays: list[int]) -> Case:
    """What the model reads in training: as many steps as frames after the first, so late levels lose their last."""
    initial_1K1 = torch.full((1, len(delays), 1), SPECIAL)
    built_1KT = delay_sequence(delays, known_codes(frames, len(delays))[None], initial_1K1)
    sequence = lines(torch.cat([initial_1K1, built_1KT], dim=2)[0], {"i": SPECIAL})
    return {"frames": frames, "levels": len(delays), "settings": {"delays": delays}, "sequence": sequence}


def stub(*names: str) -> None:
    """Empty modules for libraries of sound files and devices, of which no function is run here."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)


if __name__ == "__main__":
    main()
