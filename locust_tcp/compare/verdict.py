"""What a comparison comes to: a sentence on each variant, of differences worth believing alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from locust_tcp.compare.comparison import Difference, Variant, differences, number
from locust_tcp.compare.runs import TOTAL


@dataclass(frozen=True)
class Verdict:
    """What the comparison of a variant with the baseline comes to.

    Attributes:
        sentence: Whether it is better or worse, and in what.
        detail: How many differences are worth believing.
        kind: `worse`, `better`, or nothing.
    """

    sentence: str
    detail: str = ""
    kind: str = ""


def verdicts(variants: Sequence[Variant]) -> list[Verdict]:
    """Return a verdict on each variant but the baseline."""
    table = differences(variants)
    return [
        _verdict(variant.name, variants[0].name, [each for row_of, row in table if row_of is variant for each in row])
        for variant in variants[1:]
    ]


def _verdict(name: str, baseline: str, row: Sequence[Difference | None]) -> Verdict:
    """Name the largest difference of the times, of the rates and of the failures, for worse and for better."""
    tested = [each for each in row if each and each.is_real is not None]
    if not tested:
        return Verdict(f"Too few samples to tell whether {name} is better or worse than {baseline}.")
    tested = [each for each in tested if each.is_better is not None]
    real = sorted((each for each in tested if each.is_real), key=_size, reverse=True)
    if not real:
        return Verdict(f"{name} is neither better nor worse than {baseline} by more than chance explains.")
    are_times = not any(each.metric.is_count for each in real)
    parts = []
    for is_better, word in ((False, "slower" if are_times else "worse"), (True, "faster" if are_times else "better")):
        largest: dict[tuple[bool, int], str] = {}  # times are no count and better if less, and so on
        for each in real:
            if each.is_better is is_better:
                largest.setdefault((each.metric.is_count, each.metric.good), _words(each))
        if largest:
            parts.append((word, ", ".join(largest.values())))
    (word, named), *rest = parts
    sentence = f"{name} is {word} than {baseline}: {named}" + "".join(f"; but {word}: {named}" for word, named in rest)
    detail = f"Worth believing: {len(real)} of {len(tested)} differences (by chance alone: 1 in 20)."
    return Verdict(f"{sentence}.", detail, "" if rest else kind_of(real[0]))


def _size(each: Difference) -> float:
    """Return how large a difference is, whether for more or for less."""
    return abs(math.log(max(each.figure, 1e-9) / max(each.base, 1e-9)))  # a figure may be 0


def _words(each: Difference) -> str:
    where = "in total" if each.name == TOTAL else f"of {each.name}"
    if each.metric.is_count:  # the mean of several runs: one run has no count to test
        change = f"{number(each.figure)} instead of {number(each.base)} a run"
    elif each.base:
        change = f"{number(each.figure / each.base)} x"
    else:  # there is no ratio to zero
        change = f"{number(each.figure)} instead of 0"
    return f"{each.metric.title.removesuffix(' ms')} {where} {change}"


def kind_of(each: Difference | None) -> str:
    """Return the class of a cell."""
    if each is None or each.is_real is None:
        return ""
    return {True: "better", False: "worse", None: ""}[each.is_better] if each.is_real else "noise"
