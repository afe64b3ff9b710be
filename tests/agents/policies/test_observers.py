"""Observers as pure functions over batches of worlds."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from agents.policies.core import Goal
from agents.policies.latents import Latents
from agents.policies.pixels import Pixels
from agents.policies.true_state import TrueState

FACTORS = spaces.Dict(
    {"angle": spaces.Box(-1, 1, (2,)), "place": spaces.Box(0, 9, (2, 2)), "speed": spaces.Box(-9, 9, ())}
)


def frames(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 12, 16, 3), np.uint8)


def factors(n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(n, *space.shape)).astype(np.float32) for name, space in FACTORS.items()}


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("with_goal", [False, True])
def test_pixels__are_the_last_frames_and_the_goal(depth, with_goal):
    observer = Pixels(depth)
    seen = [frames(2, 0)] * (depth - 1) + [frames(2, t) for t in range(5)]  # the first stands for those before it
    goal = Goal(frames(2, 99), {}) if with_goal else None
    state = observer.begin(seen[depth - 1], {}, goal)
    for t in range(5):
        if t:
            state = observer.advance(state, np.zeros((2, 1)), seen[depth - 1 + t], {})
        images = [*seen[t : t + depth], *([goal.frames] if goal else [])]
        observation = observer.observe(state)
        np.testing.assert_array_equal(observation, np.concatenate(images, axis=3).transpose(0, 3, 1, 2), strict=True)
        space = observer.space((12, 16, 3), FACTORS, with_goal)
        assert all(space.contains(one) for one in observation)


@pytest.mark.parametrize("with_goal", [False, True])
def test_pixels__keep_no_memory_of_others(with_goal):
    drawn, there = frames(2, 0), frames(2, 1)
    state = Pixels().begin(drawn, {}, Goal(there, {}) if with_goal else None)
    before = Pixels().observe(state).copy()
    drawn[:], there[:] = 0, 0
    np.testing.assert_array_equal(Pixels().observe(state), before)
    Pixels().observe(state)[:] = 7
    np.testing.assert_array_equal(Pixels().observe(state), before)


@pytest.mark.parametrize("with_goal", [False, True])
def test_true_state__is_the_named_factors_in_their_order(with_goal):
    observer = TrueState(("speed", "place"))
    now, then = factors(3, 0), factors(3, 1)
    goal = factors(3, 2)
    state = observer.begin(frames(3, 0), now, Goal(frames(3, 1), goal) if with_goal else None)
    for known in (now, then):
        if known is then:
            state = observer.advance(state, np.zeros((3, 1)), frames(3, 1), then)
        rows = [known["speed"][:, None], known["place"].reshape(3, 4)]
        rows += [goal["speed"][:, None], goal["place"].reshape(3, 4)] if with_goal else []
        np.testing.assert_array_equal(observer.observe(state), np.concatenate(rows, axis=1), strict=True)
        space = observer.space((12, 16, 3), FACTORS, with_goal)
        assert all(space.contains(one) for one in observer.observe(state))


def test_true_state__is_float32_of_its_own():
    state = TrueState(("speed",)).begin(frames(2, 0), {"speed": np.array([1.5, 2.5])}, None)
    for _ in range(2):
        observation = TrueState(("speed",)).observe(state)
        np.testing.assert_array_equal(observation, np.float32([[1.5], [2.5]]), strict=True)
        observation[:] = 7


@pytest.mark.parametrize("with_goal", [False, True])
def test_latents__of_a_world_do_not_depend_on_the_others(with_goal, make_model):
    observer = Latents(make_model((12, 16, 3), frames=2))

    def observed(part):
        goal = Goal(frames(5, 9)[part], {}) if with_goal else None
        state = observer.begin(frames(5, 0)[part], {}, goal)
        state = observer.advance(state, np.zeros((5, 2), np.float32)[part], frames(5, 1)[part], {})
        return observer.observe(state)

    whole = observed(slice(None))
    assert all(observer.space((12, 16, 3), FACTORS, with_goal).contains(one) for one in whole)
    for i in range(5):
        np.testing.assert_allclose(observed(slice(i, i + 1))[0], whole[i], atol=1e-4)
    assert np.abs(whole[1:] - whole[:-1]).max() > 0.02


@pytest.mark.parametrize("with_goal", [False, True])
def test_latents__leave_their_inputs_and_states_alone(with_goal, make_memory, assert_unchanged):
    observer = Latents(make_memory(2))
    inputs = {"frames": frames(3, 0), "goal": frames(3, 1), "actions": np.ones((3, 2), np.float32)}
    with assert_unchanged(inputs):
        state = observer.begin(inputs["frames"], {}, Goal(inputs["goal"], {}) if with_goal else None)
        with assert_unchanged(state):
            observer.advance(state, inputs["actions"], inputs["frames"], {})
            observer.observe(state)[:] = 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pixels(0), "frames must be an integer of at least 1, got 0"),
        (lambda: Pixels(1.5), "frames must be an integer of at least 1, got 1.5"),
        (lambda: TrueState(()), r"names must be a list of factors, got \(\)"),
        (lambda: TrueState("speed"), "names must be a list of factors, got 'speed'"),
        (
            lambda: TrueState(("speed", "mood")).space((8, 8, 3), FACTORS, False),
            r"there are no factors \['mood'\] among \['angle', 'place', 'speed'\]",
        ),
    ],
)
def test_observers__refuse_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
