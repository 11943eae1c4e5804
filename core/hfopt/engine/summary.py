"""A run's results for people: a table for every model that was measured, next to the input model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import StringIO
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt.api.record import CandidateRecord, FinalRecord, ResultRecord
from hfopt.base.files import BEST, LOG, RECORD
from hfopt.base.text import near, size
from hfopt.cache.store import MODEL
from hfopt.config.schema import Goal
from hfopt.engine.ranking import is_slower

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_BUSY = "(!)"
WIDTH = 110
"""Characters in a line of what does not go to a terminal."""


def text_of(record: Mapping[str, Any], folder: Path) -> str:
    """A run's results as plain text.

    :param record: the content of run.json
    :param folder: the folder of that run.json
    """
    from rich.console import Console

    shown = StringIO()
    write(Console(file=shown, highlight=False, width=WIDTH), record, folder)
    return shown.getvalue().rstrip()


def write(console: Console, record: Mapping[str, Any], folder: Path) -> None:
    """Print the tables, then where the result is, or why there is none."""
    for part in _parts(record, folder):
        console.print(part, markup=False, soft_wrap=isinstance(part, str))


def _parts(record: Mapping[str, Any], folder: Path) -> Iterator[Table | str]:
    interrupted = record["status"] == "interrupted"
    for result in record["results"]:
        candidates = result["candidates"]
        if any(each["choices"] for each in candidates):
            yield _trials(result)
            yield from (_final(result, each) for each in result["finals"])
            yield from (_chosen_by(*pair) for pair in result.get("chosen", {}).items())
            tried = len(candidates)
            candidates = [each for each in candidates if each["id"] == result["best"]][:1]
            if not candidates and not interrupted:
                yield _no_best(result, tried)
        for candidate in candidates:
            if candidate["status"] == "succeeded":
                yield from _losses(candidate)
                yield _table(result, candidate)
                yield from _ratios(result, candidate)
                yield from _busy(candidate)
                yield from _goals(result, candidate)
            elif not interrupted:
                yield from _error(result, candidate, folder / LOG)
    best = any(result["best"] for result in record["results"])
    if not best and (folder / BEST).is_dir():
        yield f"{near(folder / BEST)} still has the result of an earlier run"
    if interrupted:
        yield "interrupted: run the same command again to continue"
    elif best:
        places = [near(place) for place in sorted(folder.glob(f"{BEST}*")) if (place / MODEL).is_file()]
        yield f"model: {', '.join(places)}   record: {near(folder / RECORD)}"


def trial_line(number: int, candidate: CandidateRecord, *, best: bool) -> str:
    """A trial of a search in one line."""
    figures = candidate["metrics"].items()
    found = ", ".join(f"{key} {_scaled(figure['value'], figure['unit'])}" for key, figure in figures)
    reason = f": {candidate['error']['message']}" if candidate["error"] is not None else ""
    told = found if candidate["status"] == "succeeded" else f"{candidate['status']}{reason}"
    mark = " (best so far)" if best else " (goals missed)" if candidate["goals_met"] is False else ""
    return f"trial {number}: {_chosen(candidate) or 'no choice'}: {told}{mark}"


def headline(candidate: CandidateRecord) -> str:
    """How fast and how accurate a trial is, by the figures of the highest priority."""
    figures = sorted(candidate["metrics"].items(), key=lambda pair: int(pair[1]["priority"]))
    fast = (f"{figure['speedup']['value']:.2f} times as fast" for _, figure in figures if "speedup" in figure)
    others = (pair for pair in figures if pair[1]["unit"] not in ("ms", "rows/s", "bytes"))
    accurate = (f"{key} {_scaled(figure['value'], figure['unit'])}" for key, figure in others)
    return ", ".join(each for found in (fast, accurate) if (each := next(found, None)) is not None) or "of one size"


def _chosen(candidate: CandidateRecord) -> str:
    """What a search has chosen."""
    shown = {place.removeprefix("passes."): value for place, value in candidate["choices"].items()}
    return ", ".join(f"{place}={'left out' if value is None else value}" for place, value in shown.items())


def _trials(result: ResultRecord) -> Table:
    """What a search has tried, a line for each trial."""
    from rich.table import Column, Table

    keys = list(dict.fromkeys(key for each in result["candidates"] for key in each["metrics"]))
    title = "{device}, {execution_provider}: what was tried".format_map(result["accelerator"])
    columns = [Column(key, justify="right") for key in keys]
    table = Table(Column("#", justify="right"), "choices", *columns, "", title=title, title_justify="left")
    for number, each in enumerate(result["candidates"], 1):
        found = ((each["metrics"].get(key) or {}) for key in keys)
        numbers = (_scaled(figure["value"], figure["unit"]) if figure else "" for figure in found)
        table.add_row(str(number), _chosen(each), *numbers, _standing(result, each))
    return table


def _final(result: ResultRecord, final: FinalRecord) -> str:
    """What came of two trials that were timed in turn."""
    trials = {each["id"]: number for number, each in enumerate(result["candidates"], 1)}
    one, other = trials[final["challenger"]], trials[final["incumbent"]]
    if (speedup := final["speedup"]) is None:
        return f"trial {one} could not be timed against trial {other}"
    within = "" if speedup["low"] is None else f" [{speedup['low']:.2f}, {speedup['high']:.2f}]"
    told = f"{speedup['value']:.2f} times as fast{within} as trial {other}"
    return f"{final['metric']}: timed in turn, trial {one} is {told}"


def _chosen_by(key: str, figure: Mapping[str, Any]) -> str:
    """How good the best one is, when it is allowed for that it was chosen for being so on these rows."""
    difference = _number(figure["difference"], figure["unit"], signed=True)
    told = f"{_number(figure, figure['unit'])}{difference and f', difference {difference}'}"
    return f"{key} of the best, which was chosen by it: {told}"


def _standing(result: ResultRecord, candidate: CandidateRecord) -> str:
    """What a trial came to, in a word or two."""
    if candidate["status"] != "succeeded":
        return candidate["status"]
    if candidate["id"] == result["best"]:
        return "best"
    if candidate["goals_met"] is False:
        return "goals missed"
    return "Pareto front" if candidate["pareto"] else ""


def _no_best(result: ResultRecord, tried: int) -> str:
    errors = (each["error"]["message"] for each in result["candidates"] if each["error"] is not None)
    reason = next(errors, "every model is slower than the input model")
    return f"no result: none of {tried} trials may be chosen: {reason}"


def _error(result: ResultRecord, candidate: CandidateRecord, log: Path) -> Iterator[str]:
    error = candidate["error"] or {"step": "?", "message": "a step that it depends on failed", "expected": True}
    after = _after(result, candidate)
    yield f"{f'no figures {after}' if after else 'no result'}: {error['step']}: {error['message']}"
    if not error["expected"]:
        yield f"this looks like a bug; the traceback is in {near(log)}"


def _table(result: ResultRecord, candidate: CandidateRecord) -> Table:
    from rich.table import Column, Table

    title = "{device}, {execution_provider}".format_map(result["accelerator"])
    headings = ("input model", _after(result, candidate) or "result", "difference")
    columns = [Column(heading, justify="right") for heading in headings]
    table = Table("", *columns, title=title, title_justify="left")
    for key, after in candidate["metrics"].items():
        before, difference, unit = _before(result, key, after), after["difference"], after["unit"]
        numbers = _number(before, unit), _number(after, unit), _number(difference, unit, signed=True)
        table.add_row(_marked(key, after), *numbers)
    if not any(figure["unit"] == "bytes" for figure in candidate["metrics"].values()):
        table.add_row("size", *(size(each["size_bytes"] or 0) for each in (result["input_model"], candidate)), "")
    return table


def _losses(candidate: CandidateRecord) -> Iterator[str]:
    """What got worse than the input model's by more than chance explains."""
    for key, figure in candidate["metrics"].items():
        change, sign = figure["difference"] or {"low": None}, 1 if figure["higher_is_better"] else -1
        if is_slower(figure) and figure["unit"] == "ms":
            yield f"{_marked(key, figure)}: {_speed(figure['speedup'])}"
        elif "speedup" in figure or change["low"] is None:
            continue
        elif max(sign * change["low"], sign * change["high"]) < 0:
            lost = _number(change, figure["unit"], signed=True)
            yield f"{key}: WORSE than the input model by more than chance explains: {lost}"


def _ratios(result: ResultRecord, candidate: CandidateRecord) -> Iterator[str]:
    """Speed and size relative to the input model; what got slower has been said."""
    for key, after in candidate["metrics"].items():
        if "speedup" in after and after["unit"] == "ms" and not is_slower(after):
            yield f"{_marked(key, after)}: {_speed(after['speedup'])}"
    old, new = result["input_model"]["size_bytes"], candidate["size_bytes"]
    if old and new:
        yield f"size: {new / old:.3f} of the input model's"


def _marked(key: str, figure: Mapping[str, Any]) -> str:
    return f"{key} {_BUSY}" if "cpus_left" in figure else key


def _busy(candidate: CandidateRecord) -> Iterator[str]:
    """What the mark means, if there is one."""
    left = [figure["cpus_left"] for figure in candidate["metrics"].values() if "cpus_left" in figure]
    if left:
        told = "the next run measures again if it is idle then"
        yield f"{_BUSY} timed on a busy machine, {min(left):.1f} CPUs left: {told}"


def _before(result: ResultRecord, key: str, after: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The input model's figure that a candidate's was compared with.

    The input model is timed again beside each candidate. run.json has the last of these timings with its interval; for
    the others, the value follows from the difference.
    """
    shown: Mapping[str, Any] | None = result["input_model"]["metrics"].get(key)
    if shown is None or after["difference"] is None:
        return shown
    value = after["value"] - after["difference"]["value"]
    return shown if isclose(value, shown["value"], abs_tol=1e-9) else {**shown, "value": value, "low": None}


def _after(result: ResultRecord, candidate: CandidateRecord) -> str:
    """After which pass a candidate is; empty for the last candidate, and for the trials of a search."""
    if candidate["choices"] or candidate["id"] == result["candidates"][-1]["id"]:
        return ""
    return next(f"after {step['name']}" for step in candidate["steps"] if step["key"].startswith(candidate["id"]))


def _goals(result: ResultRecord, candidate: CandidateRecord) -> Iterator[str]:
    """Each goal, and whether it is met."""
    for key, figure in candidate["metrics"].items():
        if "goal" in figure:
            goal, rising = Goal(**figure["goal"]), figure["higher_is_better"]
            value, unit = figure["value"], figure["unit"]
            before = (_before(result, key, figure) or {}).get("value")
            word = "MISSED" if goal.missed_by(value, before, rising) else "met"
            limit = goal.limit(before, rising)
            needed = "" if limit is None else f" ({'>=' if rising else '<='} {_scaled(limit, unit)})"
            yield f"goal {word}: {key}: {goal.type} {goal.value:g}{needed}, got {_scaled(value, unit)}"


def _speed(speedup: Mapping[str, Any]) -> str:
    """How many times as fast or slow. It is neither if the interval contains 1, and unsure without an interval."""
    ratio, low, high = (speedup[end] for end in ("value", "low", "high"))
    if low is None:
        return f"{ratio:.2f} times as fast, by too few runs to be sure: raise repeat_test_num"
    if low <= 1 <= high:
        return f"no faster and no slower than the input model ({ratio:.2f} times as fast [{low:.2f}, {high:.2f}])"
    if ratio < 1:
        return f"{1 / ratio:.2f} times SLOWER than the input model [{1 / high:.2f}, {1 / low:.2f}]"
    return f"{ratio:.2f} times as fast [{low:.2f}, {high:.2f}]"


def _number(figure: Mapping[str, Any] | None, unit: str, *, signed: bool = False) -> str:
    """A value, with its interval if it has one."""
    if figure is None:
        return ""
    text = _scaled(figure["value"], unit, signed=signed)
    if figure["low"] is None:
        return text
    low, high = (_scaled(figure[end], unit, signed=signed, bare=True) for end in ("low", "high"))
    return f"{text} [{low}, {high}]"


def _scaled(value: float, unit: str, *, signed: bool = False, bare: bool = False) -> str:
    """A proportion in per cent, milliseconds with two places, a size as people write it, anything else with four."""
    sign = "+" if signed else ""
    if unit == "bytes":
        return ("-" if value < 0 else sign) + size(abs(int(value)))
    if unit == "":
        return f"{value:{sign}.4g}"
    if unit == "proportion":
        value, unit = 100 * value, "points" if signed else "%"
    return f"{value:{sign}.2f}" + ("" if bare else f" {unit}")
