from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from envs.worlds.mountain_car import BODY, FLAG, GROUND, LEFT, RIGHT, MountainCar


def state_of(position, velocity) -> dict[str, np.ndarray]:
    return {"position": np.array([float(position)]), "velocity": np.array([float(velocity)])}


def height(position):
    return 0.45 * np.sin(3 * position) + 0.55


@pytest.mark.parametrize("pumping", [False, True])
def test_discrete__episodes_are_gymnasiums(pumping):
    world, theirs, rng = (
        MountainCar(continuous=False),
        gymnasium.make("MountainCar-v0").unwrapped,
        np.random.default_rng(0),
    )
    for seed in range(5):
        theirs.reset(seed=seed)
        state, terminated = state_of(*theirs.state), False
        for _ in range(200):
            action = np.array([1 + int(np.sign(state["velocity"][0]))]) if pumping else rng.integers(3, size=1)
            new = world.transition(state, action)
            observation, reward, terminated, *_ = theirs.step(int(action[0]))
            found = [new["position"][0], new["velocity"][0]]
            np.testing.assert_allclose(found, theirs.state, rtol=1e-9, atol=1e-12)
            factors = world.factors(new)
            np.testing.assert_allclose([factors["position"][0, 0], factors["velocity"][0, 0]], observation, atol=1e-7)
            assert world.reward(state, action, new)[0] == reward == -1
            assert world.terminated(new)[0] == terminated
            state = new
            if terminated:
                break
        assert terminated == pumping


@pytest.mark.parametrize("pumping", [False, True])
def test_continuous__episodes_are_gymnasiums(pumping):
    world, theirs = MountainCar(), gymnasium.make("MountainCarContinuous-v0").unwrapped
    rng = np.random.default_rng(0)
    for seed in range(5):
        theirs.reset(seed=seed)
        state, terminated = state_of(*theirs.state), False
        for _ in range(400):
            push = np.sign(state["velocity"][0]) if pumping else rng.uniform(-1.2, 1.2)
            action = np.array([[push]], np.float32)
            theirs.state = np.array([state["position"][0], state["velocity"][0]])  # they keep it in float32
            new = world.transition(state, action)
            _, reward, terminated, *_ = theirs.step(action[0].astype(float))
            np.testing.assert_allclose([new["position"][0], new["velocity"][0]], theirs.state, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(world.reward(state, action, new), reward, rtol=1e-9)
            assert (reward > 90) == terminated == world.terminated(new)[0]
            state = new
            if terminated:
                break
        assert terminated == pumping


@pytest.mark.parametrize("continuous", [False, True])
def test_mountain_car__is_gymnasiums_at_the_ends_and_at_the_goal(continuous):
    world = MountainCar(continuous=continuous)
    theirs = gymnasium.make("MountainCarContinuous-v0" if continuous else "MountainCar-v0").unwrapped
    theirs.reset(seed=0)
    ended = stopped = 0
    for position in (LEFT, -1.19, -1.15, 0.39, 0.42, 0.449, 0.46, 0.49, 0.51, 0.59, RIGHT):
        for velocity in np.linspace(-0.07, 0.07, 29):
            state = state_of(position, velocity)
            action = np.ones((1, 1), np.float32) if continuous else np.array([2])
            theirs.state = np.array([position, velocity])
            new = world.transition(state, action)
            _, reward, terminated, *_ = theirs.step(np.ones(1) if continuous else 2)
            np.testing.assert_allclose([new["position"][0], new["velocity"][0]], theirs.state, rtol=1e-6, atol=1e-9)
            assert terminated == world.terminated(new)[0]
            np.testing.assert_allclose(world.reward(state, action, new), reward)
            ended += terminated
            stopped += new["position"][0] == LEFT and new["velocity"][0] == 0
    assert ended > 50
    assert stopped > 10


def test_mountain_car__begins_at_rest_in_the_valley(keys):
    state = MountainCar().initial(keys(20_000))
    assert (state["velocity"] == 0).all()
    assert (np.abs(state["position"] + 0.5) <= 0.1).all()
    counts = np.histogram(state["position"], bins=20, range=(-0.6, -0.4))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 19 + 5 * np.sqrt(2 * 19)


@pytest.mark.parametrize("size", [28, 64, 101])
def test_mountain_car__the_car_is_where_the_factor_says(size):
    world = MountainCar(size)
    state = {"position": np.linspace(LEFT, RIGHT, 40), "velocity": np.zeros(40)}
    location, scale = world.factors(state)["location.car"], size / 2.1
    # 0.11 above the ground, along the normal (−h', 1).
    slope = 1.35 * np.cos(3 * state["position"])
    normal = np.stack([-slope, np.ones(40)], 1) / np.sqrt(1 + slope**2)[:, None]
    place = np.stack([state["position"], height(state["position"])], 1) + 0.11 * normal
    np.testing.assert_allclose(location, (size - 1) / 2 + (place - [-0.3, 0.65]) * [scale, -scale], atol=1e-4)
    assert all(world.factor_space["location.car"].contains(point) for point in location)
    red, green, blue = np.moveaxis(world.render(state).astype(float), -1, 0)
    red = np.clip(red - green - (green - blue) / 3, 0, None)  # of the body; none of the yellow flag
    row, column = np.mgrid[:size, :size]
    found = np.stack([(red * grid).sum((1, 2)) for grid in (column, row)], 1) / red.sum((1, 2))[:, None]
    np.testing.assert_allclose(found, location, atol=0.6)


@pytest.mark.parametrize(("continuous", "goal"), [(True, 0.45), (False, 0.5)])
def test_mountain_car__the_ground_is_the_hill_and_the_flag_is_at_the_goal(continuous, goal):
    size = 210  # 100 px a unit
    frame = MountainCar(size, continuous).render(state_of(-1.2, 0))[0].astype(int)
    position = (np.arange(size) - 104.5) / 100 - 0.3
    surface = 104.5 - (height(position) - 0.65) * 100
    ground = (frame == GROUND).all(axis=-1)
    for column in range(60, 170):  # right of the car, left of the flag
        assert ground[round(surface[column]) + 6 :, column].all()
        assert (frame[: round(surface[column]) - 6, column] == 255).all()
    flag = np.argwhere((frame == FLAG).all(axis=-1))
    assert len(flag) > 50
    assert abs(flag[:, 1].min() - (104.5 + (goal + 0.3) * 100)) < 4
    assert (frame == BODY).all(axis=-1).sum() > 50
