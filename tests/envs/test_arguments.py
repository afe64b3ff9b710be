"""Types of arguments."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import gymnasium
import numpy as np
import pytest

from envs.arguments import check_types, require_whole, require_whole_or_none

if TYPE_CHECKING:
    from nowhere import Unknown


def drawn(
    count: int, share: float, name: str, shown: bool, place: float | None = None, way: Literal["a"] = "a"
) -> None:
    """Takes one of each."""


def unresolved(count: Unknown) -> None:
    """Has an annotation for type checkers alone."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 2.0}, r"^drawn: count must be an integer, got 2\.0$"),
        ({"count": True}, "^drawn: count must be an integer, got True$"),
        ({"count": None}, "^drawn: count must be an integer, got None$"),
        ({"share": "much"}, "^drawn: share must be a number, got 'much'$"),
        ({"share": False}, "^drawn: share must be a number, got False$"),
        ({"name": 3}, "^drawn: name must be a string, got 3$"),
        ({"shown": "maybe"}, "^drawn: shown must be true or false, got 'maybe'$"),
        ({"shown": 1}, "^drawn: shown must be true or false, got 1$"),
        ({"place": "left"}, "^drawn: place must be a number or null, got 'left'$"),
    ],
)
def test_check_types__refuses_another_type(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_types(drawn, arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"count": 2, "share": 2, "name": "", "shown": False, "place": None},
        {"count": np.int64(2), "share": np.float32(0.5), "shown": np.True_, "place": 1.5},
        {"way": 3, "other": 3},
    ],
)
def test_check_types__lets_what_fits_and_what_it_does_not_know_pass(arguments: dict[str, Any]) -> None:
    check_types(drawn, arguments)
    check_types(unresolved, {"count": "many"})


@pytest.mark.parametrize("number", [0, -1, 1.0, True, np.True_, np.int64(1), "1", math.nan, None])
def test_require_whole__refuses_what_is_no_number_of_things(number: Any) -> None:
    with pytest.raises(ValueError, match=r"^policy\.frames must be an integer of at least 1, got "):
        require_whole(depth=1, **{"policy.frames": number})


def test_require_whole__takes_whole_numbers__and_none_where_it_may() -> None:
    require_whole(depth=1, width=3)
    require_whole(0, steps=0)
    require_whole_or_none(2, limit=None, batch=2)
    with pytest.raises(ValueError, match=r"^limit must be an integer of at least 2, or null, got 1$"):
        require_whole_or_none(2, limit=1)


@pytest.mark.parametrize("argument", ["show_goal", "held_out", "wall"])
def test_worlds__refuse_arguments_of_another_type(argument: str) -> None:
    with pytest.raises(ValueError, match=f": {argument} must be .*, got 'maybe'"):
        gymnasium.make("jepa_worlds/TwoRooms-v0", **{argument: "maybe"})
