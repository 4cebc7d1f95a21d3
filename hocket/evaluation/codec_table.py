"""The table of `hocket codecs`: every codec that is known by name, and what its tokens cost.

Rows come from the catalogue, without loading weights; a codec given by folder is loaded and states its own numbers.
"""

from typing import Any

from rich.console import Console
from rich.table import Table

from hocket.codec import CodecIdentity, load_codec
from hocket.codec.catalogue import CATALOGUE, CatalogueEntry, rates

BUNDLED = "bundled"
TITLES = (
    *("codec", "kHz", "Hz", "levels", "entries", "bits a\ntoken", "tokens\na second", "tokens\nin 30 s"),
    *("kbit/s", "seconds in\n4,096 tokens", "streams"),
)
WIDTH = 120  # columns that the table needs; a narrower terminal wraps its lines


def list_codecs(names: list[str], levels: int | None) -> list[dict[str, Any]]:
    """A row for each codec: those named, or the bundled one and all of the catalogue.

    With `levels` a codec shows the rates of that many of its levels; where it has fewer, those of all. Raises
    InputError for a name that is no codec.
    """
    known = {entry.short: entry for entry in CATALOGUE}
    rows = []
    for name in names or [BUNDLED, *known]:
        if name in known:
            rows.append(_entry_row(known[name], levels))
        else:
            codec = load_codec(name)
            rows.append(_identity_row(name, codec.identity, codec.streams_encoding and codec.streams_decoding, levels))
    return rows


def _entry_row(entry: CatalogueEntry, levels: int | None) -> dict[str, Any]:
    return {
        "name": entry.short,
        "hub": entry.hub,
        "family": entry.family,
        "source": entry.source,
        "sample_rate": entry.sample_rate,
        "channels": entry.channels,
        "codebook_size": max(entry.codebook_sizes),
        "streams": entry.streams,
    } | rates(entry.frame_rate, entry.codebook_sizes[:levels])


def _identity_row(name: str, identity: CodecIdentity, streams: bool, levels: int | None) -> dict[str, Any]:
    return {
        "name": name,
        "hub": None,
        "family": identity.name,
        "source": "hocket" if name == BUNDLED else "",
        "sample_rate": identity.sample_rate,
        "channels": identity.channels,
        "codebook_size": max(identity.codebook_sizes),
        "streams": streams,
    } | rates(identity.frame_rate, identity.codebook_sizes[:levels])


def print_codecs(rows: list[dict[str, Any]], console: Console) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in TITLES:
        table.add_column(title, justify="left" if title == "codec" else "right", no_wrap=True)
    for row in rows:
        frame_rate = row["frame_rate"] if "/" not in row["frame_rate"] else f"{_value(row['frame_rate']):.2f}"
        table.add_row(
            row["name"] + (" (stereo)" if row["channels"] == 2 else ""),
            f"{row['sample_rate'] / 1000:g}",
            frame_rate,
            str(row["levels"]),
            f"{row['codebook_size']:,}",
            f"{row['bits_per_token']:.4g}",
            f"{row['tokens_per_second']:.4g}",
            f"{row['tokens_in_30_s']:,}",
            f"{row['kbit_per_second']:.3g}",
            f"{row['seconds_in_4096_tokens']:.3g}",
            "yes" if row["streams"] else "no",
        )
    wide = Console(file=console.file, width=max(console.width, WIDTH))
    wide.print(table, highlight=False)


def _value(fraction: str) -> float:
    numerator, denominator = fraction.split("/")
    return int(numerator) / int(denominator)
