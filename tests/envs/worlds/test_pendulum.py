from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from envs.worlds.pendulum import AXLE, ROD, Pendulum

sizes = pytest.mark.parametrize("size", [28, 64, 101])


def states(n, seed=0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"angle": rng.uniform(-10, 10, n), "velocity": rng.uniform(-8, 8, n)}


def test_pendulum__moves_and_rewards_as_gymnasiums():
    world, theirs, rng = Pendulum(), gymnasium.make("Pendulum-v1").unwrapped, np.random.default_rng(0)
    for start in range(5):
        theirs.reset(seed=start)
        state = {"angle": theirs.state[:1], "velocity": theirs.state[1:]}
        for _ in range(200):
            action = rng.uniform(-3, 3, (1, 1)).astype(np.float32)  # beyond the bounds too
            new = world.transition(state, action)
            observation, reward, terminated, *_ = theirs.step(action[0].astype(float))  # theirs adds up in its dtype
            np.testing.assert_allclose([new["angle"][0], new["velocity"][0]], theirs.state, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(world.reward(state, action, new), reward, rtol=1e-12)
            factors = world.factors(new)
            seen = np.concatenate([factors["angle"][0], factors["angular_velocity"][0]])
            np.testing.assert_allclose(seen, observation, atol=1e-6)
            assert not terminated and not world.terminated(new)[0]
            state = new


def test_pendulum__begins_as_gymnasiums(keys):
    state = Pendulum().initial(keys(20_000))
    for name, bound in (("angle", np.pi), ("velocity", 1.0)):
        assert np.abs(state[name]).max() <= bound
        counts = np.histogram(state[name], bins=20, range=(-bound, bound))[0]
        assert ((counts - 1000) ** 2 / 1000).sum() < 19 + 5 * np.sqrt(2 * 19)
    assert abs(np.corrcoef(state["angle"], state["velocity"])[0, 1]) < 5 / np.sqrt(20_000)


@sizes
def test_pendulum__the_tip_is_where_the_factor_says(size):
    world, state = Pendulum(size), states(100)
    frames, tip = world.render(state).astype(float), world.factors(state)["location.tip"]
    # What is drawn, without the axle, is a capsule from the middle to the tip: its centre of mass is half way.
    middle = (size - 1) / 2
    weight = (255 - frames[..., 1]) / (255 - ROD[1])
    row, column = np.mgrid[:size, :size]
    axle = np.hypot(row - middle, column - middle) < 0.05 * size / 2.4 + 1
    weight[:, axle] = weight[:, axle].clip(0, 1)
    centre = np.stack([(weight * grid).sum((1, 2)) for grid in (column, row)], 1) / weight.sum((1, 2))[:, None]
    np.testing.assert_allclose(centre, (tip + middle) / 2, atol=0.1)
    up = np.stack([-np.sin(state["angle"]), -np.cos(state["angle"])], axis=1) * size / 2.4  # counter-clockwise, y down
    np.testing.assert_allclose(tip, middle + up, atol=1e-4)
    assert all(world.factor_space["location.tip"].contains(point) for point in tip)


def test_pendulum__is_drawn_in_its_colours():
    world, state, scale = Pendulum(64), {"angle": np.array([np.pi / 2]), "velocity": np.zeros(1)}, 64 / 2.4
    frame = world.render(state)[0]
    assert (frame[31:33, 31:33] == AXLE).all()
    assert (frame[31:33, round(31.5 - scale) : 28] == ROD).all()  # a quarter of a turn counter-clockwise: to the left
    assert (frame[:, 36:] == 255).all()
    np.testing.assert_allclose(world.coverage(state)[0, :, 15].sum(), 0.2 * scale, atol=0.02)
