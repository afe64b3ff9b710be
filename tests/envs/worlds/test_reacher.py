from __future__ import annotations

import numpy as np
import pytest

from envs.worlds.reacher import LIMIT, LOWER, UPPER, Reacher, advance, arm, mass_matrix, stop_wrist


def energy(angles, velocities) -> np.ndarray:
    m_11, m_12, m_22 = mass_matrix(angles)
    first, second = velocities.T
    return (m_11 * first**2 + 2 * m_12 * first * second + m_22 * second**2) / 2


def spin(angles, velocities) -> np.ndarray:
    """The angular momentum about the shoulder, which nothing changes but torques there."""
    m_11, m_12, _ = mass_matrix(angles)
    return m_11 * velocities[:, 0] + m_12 * velocities[:, 1]


@pytest.fixture
def moving() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.uniform(-np.pi, np.pi, (200, 2)), generator.normal(0, 6, (200, 2))


def test_reacher__moves_as_the_control_suite_s(suite, keys):
    env = suite.load("reacher", "easy", task_kwargs={"random": 0})
    world, generator = Reacher(frame_skip=1), np.random.default_rng(0)
    for episode in range(5):
        env.reset()
        with env.physics.reset_context():
            env.physics.data.qvel[:] = generator.normal(0, 3, 2)
        data = env.physics.data
        target = env.physics.named.data.geom_xpos["target", :2]
        state = {"angles": data.qpos[None].copy(), "velocities": data.qvel[None].copy(), "target": target[None].copy()}
        push = generator.uniform(-1, 1, 2)
        steps = 0
        while np.abs(data.qpos[1]) < 2.7 and steps < 200:  # the limit of the wrist is soft there
            action = np.clip(push + generator.normal(0, 0.5, 2), -1, 1).astype(np.float32)
            reward = env.step(action).reward
            new = world.transition(state, action[None])
            np.testing.assert_allclose(new["angles"][0], data.qpos, atol=1e-7)
            np.testing.assert_allclose(new["velocities"][0], data.qvel, atol=1e-6)
            tip = env.physics.named.data.geom_xpos["finger", :2]
            np.testing.assert_allclose(arm(new["angles"])[1][0], tip, atol=1e-7)
            assert world.reward(state, action[None], new)[0] == reward
            state, steps = new, steps + 1
        assert steps > 5, episode


def test_reacher__inertia_is_that_of_the_links():
    """Capsules and a sphere of density 1000, added up from small pieces of the links stretched out or folded."""
    radius, grid = 0.01, np.linspace(-0.02, 0.16, 361)
    x, y, z = np.meshgrid(grid, *[np.linspace(-radius, radius, 41)] * 2, indexing="ij")
    piece = 1000 * (grid[1] - grid[0]) * (radius / 20) ** 2

    def moment(start, end, power, offset=0.0, sign=1.0) -> float:
        """∫ ρ·r^power over a capsule along x: about the shoulder, if it hangs on one at an offset."""
        inside = (x - np.clip(x, start, end)) ** 2 + y**2 + z**2 <= radius**2
        if power == 1:
            return float((x * inside).sum() * piece)
        return float((((offset + sign * x) ** 2 + y**2) * inside).sum() * piece)

    links = [(0.0, 0.1), (0.12, 0.12)]  # the lower link and the fingertip, from the wrist
    for angle, sign in ((0.0, 1.0), (np.pi, -1.0)):
        m_11, m_12, m_22 = mass_matrix(np.array([[0.3, angle]]))
        lower = sum(moment(*link, power=2) for link in links)
        shoulder = moment(0.0, 0.12, power=2) + sum(moment(*link, power=2, offset=UPPER, sign=sign) for link in links)
        coupling = UPPER * sum(moment(*link, power=1) for link in links)
        np.testing.assert_allclose([m_11[0], m_12[0], m_22], [shoulder, lower + sign * coupling, lower], rtol=0.02)


def test_reacher__keeps_its_energy_and_spin_without_torque_and_damping(moving):
    def worst(dt) -> tuple[float, float]:
        angles, velocities = moving
        for _ in range(round(0.4 / dt)):
            angles, velocities = advance(angles, velocities, np.zeros((200, 2)), dt, damping=0.0)
        assert np.abs(angles - moving[0]).max() > 2
        before = energy(*moving), spin(*moving)
        after = energy(angles, velocities), spin(angles, velocities)
        return tuple(float((np.abs(b - a) / np.abs(a).max()).max()) for a, b in zip(before, after, strict=True))

    coarse, fine = worst(0.001), worst(0.0001)
    assert max(fine) < 0.01
    assert all(0.05 < small / large < 0.2 for small, large in zip(fine, coarse, strict=True))  # an error of first order


def test_reacher__torque_does_work_and_damping_takes_it(moving):
    torque = np.random.default_rng(1).normal(0, 0.05, (200, 2))
    dt = 1e-6
    _, velocities = advance(*moving, torque, dt)
    power = (energy(moving[0] + dt * moving[1], velocities) - energy(*moving)) / dt
    expected = (torque * moving[1]).sum(axis=1) - 0.01 * (moving[1] ** 2).sum(axis=1)
    np.testing.assert_allclose(power, expected, atol=1e-3 * np.abs(expected).max())


def test_reacher__the_wrist_stops_at_its_limit(keys):
    world = Reacher()
    state = {**world.initial(keys(100)), "angles": np.tile([0.5, LIMIT - 0.1], (100, 1))}
    state["angles"][50:, 1] *= -1
    push = np.where(np.arange(100) < 50, 1, -1)[:, None] * np.array([[0, 1]], np.float32)
    for _ in range(30):
        state = world.transition(state, push)
        assert np.abs(state["angles"][:, 1]).max() <= LIMIT
    np.testing.assert_array_equal(np.abs(state["angles"][:, 1]), LIMIT)
    np.testing.assert_array_equal(state["velocities"][:, 1], 0)
    away = world.transition(state, -push)
    assert (np.abs(away["angles"][:, 1]) < LIMIT).all()


def test_stop_wrist__passes_the_spin_on():
    angles, velocities = (
        np.array([[0.1, LIMIT + 0.01], [0.1, -LIMIT - 0.01], [0.1, LIMIT + 0.01], [0, 1.0]]),
        np.array([[1.0, 2.0], [1.0, -2.0], [1.0, -2.0], [1.0, 2.0]]),
    )
    stopped, after = stop_wrist(angles, velocities)
    np.testing.assert_array_equal(stopped[:, 1], [LIMIT, -LIMIT, LIMIT, 1.0])
    np.testing.assert_array_equal(after[:, 1], [0, 0, -2, 2])
    np.testing.assert_array_equal(after[2:], velocities[2:])
    np.testing.assert_allclose(spin(stopped, after), spin(stopped, velocities))
    assert (energy(stopped, after)[:2] < energy(stopped, velocities)[:2]).all()


def test_reacher__begins_as_the_control_suite_s(keys):
    state = Reacher().initial(keys(20_000))
    assert (state["velocities"] == 0).all()
    radius = np.sqrt((state["target"] ** 2).sum(axis=1))
    angle = np.arctan2(*state["target"].T[::-1])
    for sample, low, high in (
        (state["angles"][:, 0], -np.pi, np.pi),
        (state["angles"][:, 1], -LIMIT, LIMIT),
        (radius, 0.05, 0.2),
        (angle, -np.pi, np.pi),
    ):
        gap = np.abs(np.sort((sample - low) / (high - low)) - np.arange(20_000) / 20_000).max()
        assert gap < np.sqrt(-np.log(1e-6 / 2) / (2 * 20_000)) + 1e-4  # Kolmogorov-Smirnov at p = 1e-6
    columns = np.stack([*state["angles"].T, radius, angle])
    assert np.abs(np.corrcoef(columns) - np.eye(4)).max() < 5 / np.sqrt(20_000)


def test_reacher__rewards():
    state = {"angles": np.zeros((3, 2)), "velocities": np.zeros((3, 2)), "target": np.array([[0.2, 0.04]] * 3)}
    nowhere = {**state, "angles": np.full((3, 2), 2.0)}
    state["target"][1:, 1] = 0.045, 0.047  # the fingertip is at (0.24, 0): 0.0566, 0.0602 and 0.0617 away
    action = np.array([[0.5, -0.5], [0, 0], [1, 1]], np.float32)
    assert Reacher().reward(nowhere, action, state).tolist() == [1, 0, 0]
    assert Reacher(target_size=0.051).reward(nowhere, action, state).tolist() == [1, 1, 0]
    distance = np.hypot(0.04, state["target"][:, 1])
    dense = Reacher(reward="dense").reward(nowhere, action, state)
    np.testing.assert_allclose(dense, -distance - [0.5, 0, 2])
    assert not Reacher().terminated(state).any()


def test_reacher__factors_say_where_things_are(keys):
    world = Reacher()
    state = world.initial(keys(50))
    state["velocities"] = np.random.default_rng(0).normal(0, 3, (50, 2))
    factors = world.factors(state)
    assert set(factors) == set(world.factor_space)
    for name, space in world.factor_space.items():
        assert all(space.contains(row) for row in factors[name]), name
    first, second = state["angles"].T
    np.testing.assert_allclose(
        factors["joint_angles"].T, [np.cos(first), np.cos(second), np.sin(first), np.sin(second)], atol=1e-6
    )
    np.testing.assert_allclose(factors["joint_velocities"], state["velocities"], atol=1e-6)
    tip = UPPER * np.exp(1j * first) + LOWER * np.exp(1j * (first + second))
    scale = 64 / 0.54
    np.testing.assert_allclose(
        factors["location.fingertip"].T, [31.5 + scale * tip.real, 31.5 - scale * tip.imag], atol=1e-4
    )
    np.testing.assert_allclose(factors["location.target"], 31.5 + scale * state["target"] * [1, -1], atol=1e-4)


@pytest.mark.parametrize("size", [28, 64, 128])
def test_reacher__is_drawn_where_the_factors_say(size, keys):
    world = Reacher(size)
    state = world.initial(keys(1))
    state |= {"angles": np.array([[0.4, 1.2]]), "target": np.array([[-0.1, -0.12]])}
    frame, factors = world.render(state)[0].astype(int), world.factors(state)
    column, row = np.meshgrid(np.arange(size), np.arange(size))
    red = (frame[..., 0] - frame[..., 1]).clip(0) * (np.hypot(column - size / 4, row - 3 * size / 4) < size / 4)
    centre = np.array([(red * column).sum(), (red * row).sum()]) / red.sum()
    np.testing.assert_allclose(centre, factors["location.target"][0], atol=0.3)
    x, y = np.round(factors["location.fingertip"][0]).astype(int)
    assert frame[y, x, 0] > 120
    coverage = world.coverage(state)[0, :, :, 0]
    np.testing.assert_array_equal(coverage == 0, (frame == world.backdrop).all(axis=-1))
    for border in (frame[0], frame[-1], frame[:, 0], frame[:, -1]):
        assert (border == world.backdrop).all()


def test_reacher__the_whole_arm_is_in_the_frame():
    world = Reacher()
    angle = np.linspace(-np.pi, np.pi, 40)
    state = {
        "angles": np.stack([angle, 0 * angle], axis=1),
        "velocities": np.zeros((40, 2)),
        "target": np.zeros((40, 2)),
    }
    frames = world.render(state)
    for border in (frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1]):
        assert (border == world.backdrop).all()


def test_reacher__an_action_is_held_for_frame_skip_steps(keys, assert_same):
    one, four = Reacher(frame_skip=1), Reacher()
    state, action = one.initial(keys(20)), np.random.default_rng(0).uniform(-2, 2, (20, 2)).astype(np.float32)
    expected = state
    for _ in range(4):
        expected = one.transition(expected, np.clip(action, -1, 1))
    assert_same(four.transition(state, action), expected)
    assert (one.render_fps, four.render_fps) == (50, 12)


def test_reacher__does_not_depend_on_batch_size_or_place(keys, assert_same):
    world, key = Reacher(), keys(30)
    action = np.random.default_rng(0).uniform(-1, 1, (30, 2)).astype(np.float32)
    whole = world.transition(world.initial(key), action)
    for part in (slice(3, 4), slice(10, 21), slice(None, None, -1)):
        some = world.transition(world.initial(key[part]), action[part])
        assert_same(some, {name: array[part] for name, array in whole.items()})
        np.testing.assert_array_equal(world.render(some), world.render(whole)[part])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target_size": 0}, "target_size must be positive and finite, got 0"),
        ({"frame_skip": 1.5}, "frame_skip must be an integer of at least 1, got 1.5"),
        ({"reward": "some"}, "reward must be 'sparse' or 'dense', got 'some'"),
        ({"size": 0}, "the sides of a frame must be whole numbers of px"),
    ],
)
def test_reacher__refuses_what_cannot_be(given, message):
    with pytest.raises(ValueError, match=message):
        Reacher(**given)


def test_reacher__at_goal_touches_the_target_at_rest(keys):
    world = Reacher()
    state = world.initial(keys(500))
    state["velocities"] = np.random.default_rng(0).normal(0, 3, (500, 2))
    there = world.at_goal(state)
    np.testing.assert_allclose(arm(there["angles"])[1], state["target"], atol=1e-9)
    assert (np.abs(there["angles"][:, 1]) <= LIMIT).all() and not there["velocities"].any()
    assert ((there["angles"][:, 1] < 0) == (state["angles"][:, 1] < 0)).all()
    assert there["target"] is state["target"]
    beyond = world.at_goal({**state, "target": np.tile([0.3, 0.4], (500, 1))})
    np.testing.assert_allclose(arm(beyond["angles"])[1], np.tile([0.144, 0.192], (500, 1)), atol=1e-9)
