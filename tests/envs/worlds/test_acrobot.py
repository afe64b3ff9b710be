from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from envs.worlds.acrobot import LOWER, UPPER, Acrobot


def state_of(*joints) -> dict[str, np.ndarray]:
    """A state of one world: θ₁, θ₂ and their velocities."""
    return {"joints": np.array([joints], float)}


def gymnasiums(seed=0):
    env = gymnasium.make("Acrobot-v1").unwrapped
    env.reset(seed=seed)
    return env


def test_acrobot__episodes_are_gymnasiums():
    world, numbers, theirs, rng = Acrobot(), Acrobot(continuous=True), gymnasiums(), np.random.default_rng(0)
    ended = 0
    for episode in range(4):
        state = {"joints": rng.uniform(-0.1, 0.1, (1, 4))}
        for _ in range(500):
            # The double pendulum is chaotic: both begin every step from the same state.
            theirs.state = state["joints"][0]
            pumping = int(
                1 - np.sign(state["joints"][0, 2])
            )  # against the swing of the shoulder: so the goal is reached
            action = np.array([pumping if episode % 2 else rng.integers(3)])
            new = world.transition(state, action)
            observation, reward, terminated, *_ = theirs.step(int(action[0]))
            np.testing.assert_allclose(new["joints"][0], theirs.state, rtol=1e-11, atol=1e-11)
            assert reward == world.reward(state, action, new)[0]
            assert terminated == world.terminated(new)[0]
            factors = world.factors(new)
            names = ("angle.shoulder", "angle.elbow", "angular_velocity.shoulder", "angular_velocity.elbow")
            np.testing.assert_allclose(np.concatenate([factors[name][0] for name in names]), observation, atol=1e-5)
            torque = (action[:, None] - 1).astype(np.float32)
            np.testing.assert_array_equal(numbers.transition(state, torque)["joints"], new["joints"])
            state = new
            if terminated:
                ended += 1
                break
    assert ended == 2


def test_acrobot__moves_as_gymnasiums_from_any_state():
    world, theirs, rng = Acrobot(continuous=True), gymnasiums(), np.random.default_rng(1)
    high = np.array([np.pi, np.pi, 4 * np.pi, 9 * np.pi])
    touched = 0
    for _ in range(500):
        state, torque = {"joints": rng.uniform(-high, high, (1, 4))}, rng.uniform(-2, 2)
        theirs.state, theirs.AVAIL_TORQUE = state["joints"][0], [np.clip(np.float32(torque), -1, 1).astype(float)]
        _, reward, terminated, *_ = theirs.step(0)
        new = world.transition(state, np.array([[torque]], np.float32))
        np.testing.assert_allclose(new["joints"][0], theirs.state, rtol=1e-9, atol=1e-9)
        assert world.reward(state, np.zeros((1, 1)), new)[0] == reward == (0 if terminated else -1)
        touched += (np.abs(new["joints"][0, 2:]) == high[2:]).any()
    assert touched > 10  # velocities were clipped in some


def test_acrobot__hanging_at_rest_is_an_equilibrium():
    new = Acrobot().transition(state_of(0, 0, 0, 0), np.array([1]))
    np.testing.assert_array_equal(new["joints"], 0)


@pytest.mark.parametrize(
    ("joints", "over"),
    [((0, 0), False), ((np.pi, 0), True), ((np.pi, np.pi), False), ((2 * np.pi / 3, np.pi / 3 + 0.01), True)],
    ids=["hangs", "up", "folded", "tip above the line"],
)
def test_acrobot__ends_when_the_tip_is_above_the_line(joints, over):
    world, state = Acrobot(size=88), state_of(*joints, 0, 0)  # 20 px a metre
    assert world.terminated(state)[0] == over
    line = 43.5 - 20  # drawn one metre above the axle
    assert (world.factors(state)["location.tip"][0, 1] < line) == over
    frame = world.render(state_of(0, 0, 0, 0))[0]
    dark = np.flatnonzero((frame[:, 3] != 255).any(axis=-1))
    np.testing.assert_allclose(dark.mean(), line, atol=0.5)


def test_acrobot__begins_near_rest(keys):
    joints = Acrobot().initial(keys(20_000))["joints"]
    assert np.abs(joints).max() <= 0.1
    for column in joints.T:
        counts = np.histogram(column, bins=20, range=(-0.1, 0.1))[0]
        assert ((counts - 1000) ** 2 / 1000).sum() < 19 + 5 * np.sqrt(2 * 19)
    assert np.abs(np.corrcoef(joints.T) - np.eye(4)).max() < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("size", [28, 64, 101])
def test_acrobot__links_are_where_the_factors_say(size):
    world, rng = Acrobot(size), np.random.default_rng(0)
    state = {"joints": rng.uniform(-np.pi, np.pi, (25, 4))}
    factors, scale, middle = world.factors(state), size / 4.4, (size - 1) / 2
    elbow, tip = factors["location.elbow"], factors["location.tip"]
    first, second = state["joints"][:, 0], state["joints"][:, :2].sum(axis=1)
    np.testing.assert_allclose(elbow, middle + scale * np.stack([np.sin(first), np.cos(first)], 1), atol=1e-4)
    np.testing.assert_allclose(tip - elbow, scale * np.stack([np.sin(second), np.cos(second)], 1), atol=1e-4)
    for name, points in (("location.elbow", elbow), ("location.tip", tip)):
        assert all(world.factor_space[name].contains(point) for point in points)
    # What is covered, but for the line, is what lies within a radius of the two links.
    row, column = np.mgrid[:size, :size]
    coverage = world.coverage(state)[..., 0]
    off_line = np.abs(row - (middle - scale)) > 2
    for i in range(25):
        reach = np.full((size, size), np.inf)
        for start, end in (((middle, middle), elbow[i]), (elbow[i], tip[i])):
            for share in np.linspace(0, 1, 200):
                x, y = start + share * (end - np.asarray(start))
                reach = np.minimum(reach, np.hypot(column - x, row - y))
        assert (coverage[i][(reach > 0.12 * scale + 0.51) & off_line] == 0).all()
        np.testing.assert_allclose(coverage[i][reach < 0.12 * scale - 0.51], 1, atol=0.01)


def test_acrobot__is_drawn_in_its_colours():
    frame = Acrobot(88).render(state_of(0, np.pi / 2, 0, 0))[0]  # 20 px a metre, middle at 43.5
    assert (frame[47:60, 43:45] == UPPER).all()  # hangs down
    assert (frame[63:65, 47:62] == LOWER).all()  # and turns counter-clockwise: to the right
    assert (frame[70:] == 255).all()
