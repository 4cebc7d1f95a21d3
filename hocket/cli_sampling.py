# ruff: noqa: PLC0415 (rooms are imported inside the functions, for a quick --help)
"""How codes are drawn, as options: what `hocket generate` and `hocket evaluate` share."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hocket.errors import InputError

if TYPE_CHECKING:
    from hocket.inference.guidance import Guidance
    from hocket.inference.masking import MaskSampling

SAMPLING, MASKED = "Sampling", "Models that predict in place"


def _sampling(meaning: str) -> Any:
    return typer.Option(help=meaning, rich_help_panel=SAMPLING)


def _masked(meaning: str) -> Any:
    return typer.Option(help=meaning, rich_help_panel=MASKED)


Temperature = Annotated[float, _sampling("Divides the logits; 0 takes the likeliest code.")]
TopK = Annotated[int, _sampling("Sample among so many likeliest codes; 0 is off.")]
TopP = Annotated[float, _sampling("Sample among the codes that hold this probability; 1 is off.")]
MinP = Annotated[float, _sampling("Leave out codes less probable than this share of the likeliest.")]
RepetitionWindow = Annotated[int, _sampling("Repetition-aware: look at so many last codes; 0 is off.")]
RepetitionRatio = Annotated[float, _sampling("Draw again what makes up more than this share of them.")]
Rows = Annotated[
    list[str] | None,
    typer.Option("--row", help="Another value for a stream or level: audio.0.top_k=50.", rich_help_panel=SAMPLING),
]
GuidanceScale = Annotated[str | None, _sampling("Classifier-free guidance: SCALE, or START:END over the document.")]
Beams = Annotated[
    int, typer.Option(help="Recognition by beam search of this width; 1 samples.", min=1, rich_help_panel=SAMPLING)
]
BestOf = Annotated[
    int,
    typer.Option(
        help="Of so many attempts, the one that the model itself hears best (models that also recognise).",
        min=1,
        rich_help_panel=SAMPLING,
    ),
]
Passes = Annotated[str | None, _masked("Passes by level, as 16,1 (the last for the rest).")]
ChoiceTemperature = Annotated[float | None, _masked("Noise on the choice of what is fixed first.")]
Span = Annotated[int | None, _masked("Frames that are fixed together (MAGNeT: 3).")]


def parse_rows(rows: list[str]) -> dict[str, dict[str, Any]]:
    """`audio.0.top_k=50` as settings by stream and level."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        place, equals, value = row.partition("=")
        name, dot, key = place.rpartition(".")
        try:
            number = float(value) if "." in value or "e" in value else int(value)
        except ValueError:
            number = None
        if not (equals and dot) or number is None:
            raise InputError(f"--row {row} is none: write STREAM.KEY=NUMBER, such as audio[1:].temperature=0.7")
        found.setdefault(name, {})[key] = number
    return found


def find_how(
    guidance: str | None,
    in_place: bool,
    passes: str | None,
    choice_temperature: float | None,
    span: int | None,
) -> "tuple[Guidance | None, MaskSampling | None]":
    """Guidance and masks, as the kind of model wants them."""
    from hocket.inference.guidance import Guidance
    from hocket.inference.masking import MaskSampling

    scales = _numbers("--guidance", guidance, ":", float)
    if len(scales) > 2:
        raise InputError(f"--guidance is SCALE or START:END, not {guidance}")
    changes: dict[str, Any] = {"choice_temperature": choice_temperature, "span": span}
    changes = {name: value for name, value in changes.items() if value is not None}
    if passes:
        changes["steps"] = tuple(_numbers("--passes", passes, ",", int))
    if in_place and scales:
        changes |= {"guidance": scales[0], "guidance_end": scales[-1]}
    masks = MaskSampling(**changes) if changes else None
    guided = Guidance(scale=scales[0], end_scale=scales[-1]) if scales and not in_place else None
    return guided, masks


def _numbers(option: str, text: str | None, separator: str, kind: type) -> list:
    try:
        return [kind(part) for part in text.split(separator)] if text else []
    except ValueError:
        raise InputError(f"{option} takes numbers with {separator} between them, not {text}") from None
