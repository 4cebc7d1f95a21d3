"""What is found out about a source before the first of its rows is imported.

The order of the axes that all rows must share, whether units have lost their durations, and who is held out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hocket.data.clips import Clip
from hocket.data.importing.entries import CodeSource
from hocket.data.importing.rules import ORDERS, Rules
from hocket.data.tokenizing.splits import SplitRule, survey
from hocket.errors import InputError

SURE = 40
"""Rows to be expected in the smaller split from which on chance leaves none empty (1 in 10^17)."""

LOOKED_AT = 1000
"""Units among which at least two equal neighbours are expected, unless runs were made one."""
LARGEST_UNITS = 8192
"""Codebooks up to which that holds; those of larger ones hardly ever repeat."""


class MixedOrders(InputError):
    """Rows of one source disagree about which axis is which, so none can be trusted."""


@dataclass(frozen=True)
class Order:
    """The order of the axes that all rows must share, and which row showed it."""

    order: str | None = None
    where: str = ""

    @classmethod
    def find(cls, source: CodeSource, rules: Rules) -> "Order":
        """By the first row that shows it."""
        if rules.codec.levels == 1:
            return cls()
        for entry in source.entries():
            try:
                _, order = rules.order(entry.read().codes)
            except InputError:
                continue  # the job names it with its reason
            return cls(order, entry.name)
        return cls()

    def check(self, order: str | None, where: str, source: str) -> None:
        """Raises MixedOrders."""
        if self.order and order != self.order:
            assert order is not None
            raise MixedOrders(
                f'"{source}" mixes orders of axes: "{self.where}" is {ORDERS[self.order]}, "{where}" {ORDERS[order]}; '
                "bring them into one order, or import them apart"
            )


def check_source(source: CodeSource, rules: Rules, deduplicated: bool | None) -> None:
    """Raise InputError where the source as a whole is of another codec, or its units lack their durations."""
    try:
        rules.check_stated(source.stated())
    except InputError as error:
        raise InputError(f'"{source.name}" is of another codec: in its codec.json {error}') from error
    if deduplicated is not None or rules.codec.levels > 1 or rules.codec.codebook_sizes[0] > LARGEST_UNITS:
        return
    n_units = 0
    for entry in source.entries():
        try:
            row = entry.read()
            codes_TK, _ = rules.check(row)
        except InputError:
            continue  # the job names it with its reason
        if row.has_durations or (codes_TK[1:] == codes_TK[:-1]).any():
            return
        n_units += len(codes_TK)
        if n_units >= LOOKED_AT:
            raise InputError(
                f'"{source.name}" holds no two equal units in a row among its first {n_units:,}: they are '
                "deduplicated, and without durations their time is lost; import a form that has durations (SlamKit's "
                "features), or take them as they are with --deduplicated (--not-deduplicated if they never were)"
            )


def split_rule(source: CodeSource, rules: Rules, n_rows: int | None, valid_share: float) -> SplitRule:
    """Small sources are looked through, so that neither train nor valid stays empty."""
    if n_rows is None or n_rows * min(valid_share, 1 - valid_share) > SURE or valid_share == 0:
        return SplitRule(valid_share)
    return survey(_usable(source, rules), valid_share).rule


def _usable(source: CodeSource, rules: Rules) -> Iterator[Clip]:
    for entry in source.entries():
        try:
            row = entry.read()
            rules.check(row)
        except InputError:
            continue  # the job names it with its reason
        yield row.clip
