from __future__ import annotations

import numpy as np
import pytest

from envs.distractors.background import Background
from envs.distractors.core import DistractedWorld
from envs.distractors.square import Square
from envs.distractors.uniform import UniformNoise
from envs.worlds.moving_dot import MovingDot
from envs.worlds.pendulum import Pendulum


def run(world, key, steps) -> list[dict[str, np.ndarray]]:
    action = np.zeros((len(key), *world.action_space.shape), np.float32)
    states = [world.initial(key)]
    for _ in range(steps):
        states.append(world.transition(states[-1], action))
    return states


def centres(world, states) -> np.ndarray:
    return np.stack([world.factors(state)["square"] for state in states])  # [T, n, (x, y)]


@pytest.mark.parametrize("side", [1, 4, 5, 27])
def test_square__is_of_one_colour_where_its_factor_says_and_hides_nothing_else(side, keys):
    world = DistractedWorld(Pendulum(size=28), Square(side))
    for state in run(world, keys(40), 1):
        plain, seen = Pendulum(size=28).render(state), world.render(state)
        for i, (x, y) in enumerate(world.factors(state)["square"]):
            left, top = round(x - (side - 1) / 2), round(y - (side - 1) / 2)
            colour = state["distractor.0.colour"][i]
            assert (seen[i, top : top + side, left : left + side] == colour).all()
            plain[i, top : top + side, left : left + side] = colour
        np.testing.assert_array_equal(seen, plain)


def test_static__stays_for_the_episode_and_may_be_anywhere_in_any_colour(keys):
    world = DistractedWorld(MovingDot(), Square())
    states = run(world, keys(3000), 3)
    where = centres(world, states)
    assert (where == where[0]).all()
    assert len({int(x) for x in np.unique(where[..., 0])}) == len(np.unique(where[..., 1])) == 28 - 4
    assert (where.min(), where.max()) == (2, 25)  # up to every edge
    colours = states[-1]["distractor.0.colour"]
    np.testing.assert_array_equal(colours, states[0]["distractor.0.colour"])
    assert len(np.unique(colours)) > 250


def test_dynamic__is_new_at_every_step(keys):
    world = DistractedWorld(Pendulum(size=28), Square(dynamics="dynamic"))
    states = run(world, keys(200), 10)
    where = centres(world, states)
    assert (where[1:] != where[:-1]).any(axis=2).mean() > 0.98
    colours = np.stack([state["distractor.0.colour"] for state in states]).reshape(11, -1).astype(float)
    for seen in (where.reshape(11, -1), colours):
        assert np.abs(np.corrcoef(seen) - np.eye(11)).max() < 5 / np.sqrt(seen.shape[1])


@pytest.mark.parametrize("speed", [0.4, 1.0, 3.3, 60.0])
def test_drifting__goes_straight_on_and_is_turned_back_by_the_edges(speed, keys):
    world = DistractedWorld(MovingDot(), Square(dynamics="drifting", speed=speed))
    states = run(world, keys(50), 200)
    where = np.stack([state["distractor.0.centre"] for state in states])
    # Unfolded, the way is a straight line: a position folds back at 2 and at 25 px.
    heading = states[0]["distractor.0.velocity"]
    np.testing.assert_allclose(np.linalg.norm(heading, axis=1), speed)
    way = where[0] + np.arange(201)[:, None, None] * heading
    np.testing.assert_allclose(where, 2 + 23 - np.abs(np.mod(way - 2, 46) - 23), atol=1e-8)
    colours = [state["distractor.0.colour"] for state in states]
    np.testing.assert_array_equal(colours[0], colours[-1])


def test_drifting__between_pixels_covers_as_much_as_its_area(keys):
    world = DistractedWorld(MovingDot(), Square(dynamics="drifting", speed=0.37))
    for state in run(world, keys(60), 25)[5::5]:
        state = {**state, "location": np.full((60, 2), -100, np.float32)}  # a dot far away: black
        state["distractor.0.colour"] = np.full((60, 1), 200, np.uint8)
        seen = world.render(state)[..., 0] / 200
        np.testing.assert_allclose(seen.sum(axis=(1, 2)), 25, atol=0.1)
        x, y = (np.arange(28) * seen.sum(axis=axis) / seen.sum(axis=(1, 2))[:, None] for axis in (1, 2))
        np.testing.assert_allclose(
            np.stack([x.sum(axis=1), y.sum(axis=1)], axis=1), centres(world, [state])[0], atol=0.02
        )


@pytest.mark.parametrize("order", [1, -1])
def test_square__is_in_front_of_a_background_behind_the_scene(order, keys):
    layers = [Background(UniformNoise(), blend="behind"), Square()][::order]
    world = DistractedWorld(Pendulum(size=28), layers)
    state = world.initial(keys(20))
    number = [type(layer) for layer in layers].index(Square)
    seen = world.render(state)
    for i, (x, y) in enumerate(world.factors(state)["square"].astype(int)):
        assert (seen[i, y - 2 : y + 3, x - 2 : x + 3] == state[f"distractor.{number}.colour"][i]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"side": 0}, "side must be an integer of at least 1, got 0"),
        ({"side": 2.5}, "side must be an integer of at least 1, got 2.5"),
        ({"dynamics": "playing"}, "dynamics of a square must be one of .*, got 'playing'"),
        ({"speed": float("inf")}, "speed must be finite, got inf"),
    ],
    ids=str,
)
def test_square__refuses_what_is_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Square(**arguments)


def test_square__that_does_not_fit_the_frame_is_refused():
    with pytest.raises(ValueError, match=r"a square of side=28 needs frames larger than \(28, 28\) px"):
        DistractedWorld(MovingDot(), Square(28))
