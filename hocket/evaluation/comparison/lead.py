"""Which is better, and by how much: the first sentences of a comparison, and nothing that the figures do not carry."""

from collections.abc import Sequence

from hocket.evaluation.comparison import words
from hocket.evaluation.comparison.groups import Equal, Group, find_repeats


def lead_sentences(groups: Sequence[Group], equals: Sequence[Sequence[Equal]]) -> list[str]:
    """One paragraph for each group that can be ranked, and one on those that cannot."""
    ranked = [group for group in groups if len(group.members) > 1]
    said = [_best(group) for group in ranked]
    repeats = [repeat for group in ranked for repeat in find_repeats(group)]
    said += [f"What another seed does: {words.listing([str(one) for one in repeats])}."] if repeats else []
    said += [sentence for table in equals if (sentence := _at_equal(table))]
    alone = [group.members[0].subject.label for group in groups if len(group.members) == 1]
    if not ranked:
        return ["No two of these runs may be ranked against each other; below is why, and each by itself."]
    if alone:
        stand = "stands" if len(alone) == 1 else "stand"
        said.append(f"{words.listing(alone)} {stand} beside without a rank: the conditions differ, as said below.")
    return said


def _best(group: Group) -> str:
    best, others = group.best, group.members[1:]
    figure = f"{'at most ' if best.is_most else ''}{words.bits(best.total.value)} bits"
    spread = f" (95 % interval {words.interval(best.total, words.bits)})" if best.total.low is not None else ""
    opening = (
        f"Of {len(group.members)} runs that may be ranked, {best.subject.label} needs the fewest bits to name a second "
        f"of held-out audio: {figure}{spread}."
    )
    return f"{opening} {_against(group, others)}"


def _against(group: Group, others) -> str:
    """How the others stand to the lowest."""
    best = group.best.total
    kinds: dict[str, list[str]] = {"more": [], "same": [], "bare": [], "bound": []}
    for held in others:
        kind = "bound" if held.is_most else {True: "more", False: "same", None: "bare"}[group.is_more(held)]
        kinds[kind].append(f"{held.subject.label} ({words.percent(held.total.value / best.value - 1)})")
    said = []
    if kinds["more"]:
        said.append(f"{words.listing(kinds['more'])} {_need(kinds['more'])} more, with 95 % confidence over clips.")
    if kinds["same"]:
        said.append(f"{words.listing(kinds['same'])}: the difference may be chance, so that none is called better.")
    if kinds["bare"]:
        said.append(f"{words.listing(kinds['bare'])}: higher, but without intervals, so none is called better.")
    if kinds["bound"]:
        said.append(f"{words.listing(kinds['bound'])}: upper bounds only, so not called worse.")
    return " ".join(said)


def _need(names: list[str]) -> str:
    return "needs" if len(names) == 1 else "need"


def _at_equal(table: Sequence[Equal]) -> str:
    """Which is lowest at equal steps, FLOPs and audio seen, and by how much."""
    found: dict[str, list[str]] = {}
    for equal in table:
        (first, low), (second, high) = equal.values[:2]
        below = words.percent(high / low - 1).removeprefix("+")
        name = second.held.subject.label
        whose = f"the upper bound of {name}" if second.held.is_most else name
        where = f"{equal.axis.equal} ({equal.axis.say(equal.x)}: {below} below {whose})"
        found.setdefault(first.held.subject.label, []).append(where)
    said = [f"{winner} is lowest at {words.listing(places)}" for winner, places in found.items()]
    return f"While training, {words.listing(said)}; one run each, so without intervals." if said else ""
