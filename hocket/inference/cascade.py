"""The stages of a cascade: what each model needs and makes, and whether they fit together.

    stage       is given        makes
    semantic    -               semantic
    coarse      semantic        audio[:4]
    fine        audio[:4]       audio[4:8]

Everything is checked before a code is made: what a stage is given must come from a stage before it or from the user,
each level is made once, and a stream that two stages share is of one codec. Text alone may be read by different
tokenizers: it goes from stage to stage as a string, and each encodes it for itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from hocket.codec import CodecIdentity
from hocket.errors import InputError
from hocket.inference.asking import SOURCE, SPEECH, UNITS
from hocket.inference.files import open_generator
from hocket.inference.generator import Generator
from hocket.inference.pipeline_file import StageSettings
from hocket.interleave.stream import StreamRef
from hocket.model import Model
from hocket.vocab import ALIGNED_TEXT, TEXT

UNTIMED = (TEXT, SOURCE)  # streams that do not run on the clock of what is made


class CascadeStage:
    """A model of a cascade."""

    def __init__(self, settings: StageSettings, device: str = "cpu", dtype: str = "float32"):
        self.settings, self.name = settings, settings.name
        self.generator: Generator = open_generator(settings.checkpoint, device, dtype)

    @property
    def model(self) -> Model:
        return self.generator.model

    @property
    def levels(self) -> Mapping[str, int]:
        """K by stream of the layout."""
        return self.model.layout.streams

    @property
    def reads_text(self) -> bool:
        """Whether text stands before what is made, learned or not."""
        return TEXT in self.levels and SPEECH in self.generator.tasks

    @property
    def recognises(self) -> bool:
        """Whether text is made of codes."""
        return TEXT in self.levels and self.generator.recognises

    @cached_property
    def given(self) -> dict[str, int]:
        """How many of the first levels of each stream the model is given, of those of which it is given some."""
        given = dict(self.generator.given)
        if self.recognises:
            given = {name: k for name, k in self.levels.items() if name != TEXT}
        return given | ({TEXT: 1} if self.reads_text else {})

    @cached_property
    def made(self) -> dict[str, range]:
        """The levels of each stream that the model makes."""
        ranges = {name: range(self.given.get(name, 0), k) for name, k in self.levels.items()}
        return {name: levels for name, levels in ranges.items() if levels}

    @cached_property
    def timed(self) -> tuple[str, ...]:
        """The streams that run on the clock of the recording: all codes but those of another recording."""
        return tuple(name for name in self.levels if name not in UNTIMED)

    @property
    def is_told_length(self) -> bool:
        """Whether a given stream says how long the recording is."""
        return any(name in self.timed for name in self.given)

    @property
    def slides(self) -> bool:
        """Whether it can go through a long recording in windows: not with text, which has no times to be cut by."""
        return not set(UNTIMED) & set(self.levels)

    def identity(self, stream: str) -> CodecIdentity | None:
        """Which codec the codes of a stream are of, where the checkpoint says."""
        return self.model.codec_identities.get(stream)


def check_chain(stages: Sequence[CascadeStage], given: Iterable[str] = ()) -> None:
    """Everything that a stage is given is made before it or given by the user, and no level is made twice.

    Raises:
        InputError: says which stage lacks what.
    """
    made: dict[str, dict[int, str]] = {}
    for reference in given:
        ref = StreamRef.parse(reference)
        most = max((stage.levels.get(ref.name, 0) for stage in stages), default=0)
        if not most:
            raise InputError(f'"{ref.name}" is to be given, but no stage has such a stream')
        made[ref.name] = dict.fromkeys(range(ref.start, most if ref.stop is None else ref.stop), "the user")
    for number, stage in enumerate(stages):
        for stream, n_given in stage.given.items():
            if stream != TEXT or stream in made:
                _check_given(stage, stream, n_given, made.get(stream, {}), stages[number + 1 :])
        for stream, levels in stage.made.items():
            twice = [k for k in levels if k in made.get(stream, {})]
            if twice:
                raise InputError(
                    f'{made[stream][twice[0]]} and stage "{stage.name}" both make {_say(stream, twice)}: leave one '
                    "out, or train the second with these given"
                )
            made.setdefault(stream, {}).update(dict.fromkeys(levels, f'stage "{stage.name}"'))


def _check_given(
    stage: CascadeStage, stream: str, n_given: int, made: Mapping[int, str], later: Sequence[CascadeStage]
) -> None:
    missing = [k for k in range(n_given) if k not in made]
    if not missing:
        return
    needed = f'stage "{stage.name}" is given {_say(stream, range(n_given))}'
    after = next((s.name for s in later if missing[0] in s.made.get(stream, ())), None)
    if after is not None:
        raise InputError(f'{needed}, which stage "{after}" makes only later: put "{after}" before "{stage.name}"')
    if made:
        raise InputError(f"{needed}, but the stages before it make only {_say(stream, sorted(made))}")
    raise InputError(f"{needed}, which no stage before it makes: put one there that does")


def _say(stream: str, levels: Sequence[int]) -> str:
    """`audio[0:4]`, or `semantic`."""
    return stream if stream in (TEXT, ALIGNED_TEXT, UNITS) else f"{stream}[{levels[0]}:{levels[-1] + 1}]"


def check_codes(stages: Sequence[CascadeStage]) -> None:
    """Streams that stages share are of one codec, with as many codes a level; aligned text of one tokenizer.

    Raises:
        InputError: names two stages and how their streams differ.
    """
    for number, second in enumerate(stages):
        for first in stages[:number]:
            for stream in second.levels:
                if stream in first.levels and stream != TEXT:
                    _check_shared(stream, first, second)


def _check_shared(stream: str, first: CascadeStage, second: CascadeStage) -> None:
    pair = (first, second)
    said = f'"{stream}" of stage "{first.name}" and of stage "{second.name}"'
    if stream == ALIGNED_TEXT:
        tokenizers = [stage.model.vocabulary.text for stage in pair]
        if len({text.fingerprint if text else None for text in tokenizers}) > 1:
            raise InputError(f"{said} is written in the tokens of two text tokenizers: train both with one")
        return
    sizes = [stage.model.vocabulary.sizes(stream)[: min(s.levels[stream] for s in pair)] for stage in pair]
    if sizes[0] != sizes[1]:
        k = next(k for k in range(len(sizes[0])) if sizes[0][k] != sizes[1][k])
        raise InputError(
            f"{said} have {sizes[0][k]:,} and {sizes[1][k]:,} codes in level {k}: they were trained on other codecs"
        )
    identities = [stage.identity(stream) for stage in pair]
    rates = [identity.frame_rate for identity in identities if identity]
    if len(set(rates)) > 1:
        raise InputError(
            f"{said} run at {float(rates[0]):g} and {float(rates[1]):g} frames a second: they were trained on other "
            "codecs"
        )
    names = [f'"{identity.name}"' if identity else "unnamed" for identity in identities]
    prints = [_fingerprints(stage, stream) for stage in pair]
    if all(prints) and not set(prints[0]) & set(prints[1]):
        raise InputError(
            f"{said} are codes of two codecs: {names[0]} with fingerprint {prints[0][0]}, and {names[1]} with "
            f"{prints[1][0]}"
        )


def _fingerprints(stage: CascadeStage, stream: str) -> list[str]:
    """Those of the codec cut to each number of levels, all of them first; of old checkpoints the one that the
    vocabulary knows."""
    identity = stage.identity(stream)
    if identity is not None:
        return [identity.with_levels(k).fingerprint for k in range(identity.levels, 0, -1)]
    known = stage.model.vocabulary.codecs.get(stream)
    return [known] if known else []
