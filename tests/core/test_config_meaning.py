"""Values that are not of their option's type and yet can mean only one thing."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from hfopt.api.config import Config, ConfigContext
from hfopt.api.systems import SystemConfig
from hfopt.config.problems import Mistakes, validate


class Inner(Config):
    """Options in an object."""

    rate: float = 0.5
    word: str | None = None


class Options(Config):
    """One option of each type."""

    count: int = 3
    exact: bool = False
    limit: int | str | None = 7
    level: Literal[0, 1, 2] | None = None
    format: Literal["QDQ", "QOperator"] = Field("QDQ", alias="Format")
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    free: dict[str, Any] = {}
    counts: dict[str, int] = {}


class Needed(Config):
    """An option without a default."""

    count: int


def read(options, model=Options):
    return validate(model, options, ("passes", "p", "config"), ConfigContext(folder=None))


@pytest.mark.parametrize("blank", [None, ""])
@pytest.mark.parametrize("option", ["count", "exact", "Format", "inner", "several", "free", "counts"])
def test_null_and_an_empty_text_are_an_option_left_out(option, blank):
    assert read({option: blank}) == Options()


def test_so_they_are_in_objects_and_lists_of_them():
    assert read({"inner": {"rate": None, "word": ""}, "several": [{"rate": ""}]}) == Options(several=(Inner(),))


def test_null_stays_where_it_says_something_and_where_keys_are_the_users():
    options = read({"limit": None, "free": {"a": None, "b": ""}})

    assert (options.limit, options.free) == (None, {"a": None, "b": ""})


def test_an_empty_text_does_not_stand_for_what_is_required():
    with pytest.raises(Mistakes, match="expected an integer, got a string"):
        read({"count": ""}, Needed)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"count": "13"}, {"count": 13}),
        ({"count": 13.0}, {"count": 13}),
        ({"counts": {"a": "2"}}, {"counts": {"a": 2}}),
        ({"inner": {"rate": "1E-2"}}, {"inner": Inner(rate=0.01)}),
        ({"several": [{}, {"rate": "2"}]}, {"several": (Inner(), Inner(rate=2.0))}),
        ({"exact": "True"}, {"exact": True}),
        ({"exact": 0}, {"exact": False}),
        ({"level": "2"}, {"level": 2}),
        ({"Format": "qoperator"}, {"Format": "QOperator"}),
        ({"limit": "13"}, {"limit": "13"}),
    ],
)
def test_what_can_mean_only_one_thing_means_it(written, meant):
    assert read(written) == Options(**meant)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"count": "13 or so"}, "expected an integer, got a string"),
        ({"count": 13.5}, "expected an integer"),
        ({"count": True}, "expected an integer, got a boolean"),
        ({"inner": {"rate": "NaN"}}, "expected a number, got a string"),
        ({"inner": {"word": 13}}, "expected a string, got an integer"),
        ({"exact": "maybe"}, "expected true or false, got a string"),
        ({"exact": 2}, "expected true or false, got an integer"),
        ({"level": "3"}, "must be 0, 1 or 2"),
    ],
)
def test_what_could_mean_something_else_is_refused(written, message):
    with pytest.raises(Mistakes, match=message):
        read(written)


@given(number=st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_may_stand_in_quotes(number):
    assert read({"inner": {"rate": str(number)}}).inner.rate == float(number)


def test_case_does_not_matter_for_devices_and_providers():
    system = read(
        {"accelerators": [{"device": "GPU", "execution_providers": ["cuda", "cpuexecutionprovider"]}]}, SystemConfig
    )

    (accelerator,) = system.accelerators
    assert accelerator.device == "gpu"
    assert accelerator.execution_providers == ("CUDAExecutionProvider", "CPUExecutionProvider")


def test_sections_may_be_null(project):
    project.config |= {"systems": None, "data_root": None}

    assert project.run(command="validate").returncode == 0
