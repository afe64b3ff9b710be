from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from envs.worlds.cart_pole import CART, FORCE, MAX_TILT, POLE, TRACK, CartPoleBalance, CartPoleSwingUp

NAMES = ("position", "velocity", "angle", "angular_velocity")  # in the order of Gymnasium's state
CONTROL = np.zeros((1, 1), np.float32)


def gymnasiums(seed=0):
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset(seed=seed)
    return env


def state_of(*numbers) -> dict[str, np.ndarray]:
    """A state of one world: x, ẋ, θ, θ̇."""
    return {name: np.array([float(number)]) for name, number in zip(NAMES, numbers, strict=True)}


def vector(state) -> np.ndarray:
    return np.concatenate([state[name] for name in NAMES])


def test_balance__episodes_are_gymnasiums():
    world, rng = CartPoleBalance(), np.random.default_rng(0)
    lengths = np.zeros(30, int)
    for seed in range(30):
        theirs = gymnasiums(seed)
        state, terminated = state_of(*theirs.state), False
        while not terminated:
            lean = theirs.state[2] + theirs.state[3] > 0  # a poor controller, so that some episodes are long
            action = rng.integers(2, size=1) if seed % 2 else np.where(rng.random(1) < 0.1, 1 - lean, lean)
            new = world.transition(state, action)
            observation, reward, terminated, *_ = theirs.step(int(action[0]))
            np.testing.assert_allclose(vector(new), theirs.state, rtol=1e-9, atol=1e-11)
            assert reward == world.reward(state, action, new)[0] == 1
            assert terminated == world.terminated(new)[0]
            x, speed, (cos, sin), spin = (world.factors(new)[name][0] for name in NAMES)
            np.testing.assert_allclose(
                [x[0], speed[0], np.arctan2(sin, cos), spin[0]], observation, rtol=1e-6, atol=1e-6
            )
            state = new
            lengths[seed] += 1
        assert world.reward(state, action, world.transition(state, action))[0] == 0  # nothing after the end
    assert lengths.max() > 50 > lengths.min()


@pytest.mark.parametrize(
    ("numbers", "over"),
    [
        ((TRACK, 9, 0, 0), False),
        ((TRACK + 1e-9, 0, 0, 0), True),
        ((-TRACK - 1e-9, 0, 0, 0), True),
        ((0, 0, MAX_TILT, 0), False),
        ((0, 0, np.radians(12.001), 0), True),
        ((0, 0, -np.radians(12.001), 0), True),
    ],
    ids=str,
)
def test_balance__ends_beyond_the_track_or_the_tilt(numbers, over):
    assert CartPoleBalance().terminated(state_of(*numbers))[0] == over
    assert not CartPoleSwingUp().terminated(state_of(*numbers))[0]


def test_swing_up__moves_as_gymnasiums_under_any_force():
    world, rng, theirs = CartPoleSwingUp(), np.random.default_rng(0), gymnasiums()
    for _ in range(500):
        numbers = rng.uniform([-2, -3, -7, -9], [2, 3, 7, 9])
        action = rng.uniform(-1.5, 1.5, (1, 1)).astype(np.float32)
        theirs.state, theirs.force_mag = numbers, FORCE * float(np.clip(action, -1, 1)[0, 0])
        theirs.steps_beyond_terminated = None
        theirs.step(1)
        np.testing.assert_allclose(
            vector(world.transition(state_of(*numbers), action)), theirs.state, rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("side", [-1, 1])
def test_swing_up__the_cart_stops_at_the_buffers_and_the_pole_swings_on(side):
    world = CartPoleSwingUp()
    free, theirs = state_of(side * 2.39, side * 3, 0.4, 0.7), gymnasiums()
    theirs.state, theirs.force_mag = vector(free), 0.0
    theirs.step(1)
    stopped = world.transition(free, CONTROL)
    assert stopped["position"][0] == side * TRACK
    assert stopped["velocity"][0] == 0
    # The impulse acts at the axle: the pole's angular momentum about it, m·l·ẋ·cos θ + 4/3·m·l²·θ̇, does not change.
    _, speed, _, spin = theirs.state
    momentum = 0.5 * speed * np.cos(0.4) + 4 / 3 * 0.5**2 * spin
    np.testing.assert_allclose(4 / 3 * 0.5**2 * stopped["angular_velocity"][0], momentum, rtol=1e-12)


@pytest.mark.parametrize("side", [-1, 1])
def test_swing_up__a_cart_pressed_against_a_buffer_holds_a_plain_pendulum(side):
    world = CartPoleSwingUp()
    state, angle, spin = state_of(side * TRACK, 0, 2.0, 0), 2.0, 0.0
    for _ in range(100):
        state = world.transition(state, np.full((1, 1), side, np.float32))
        # θ̈ = g·sin θ / (4l/3), by Euler's method
        angle, spin = angle + 0.02 * spin, spin + 0.02 * 9.8 * np.sin(angle) / (4 / 3 * 0.5)
        assert state["position"][0] == side * TRACK
        assert state["velocity"][0] == 0
    np.testing.assert_allclose([state["angle"][0], state["angular_velocity"][0]], [angle, spin], rtol=1e-9)
    away = world.transition(state, np.full((1, 1), -side, np.float32))
    assert side * away["velocity"][0] < 0  # and it can leave


def test_swing_up__stays_on_its_track_and_bounded(keys):
    world, rng = CartPoleSwingUp(), np.random.default_rng(0)
    state = world.initial(keys(50))
    direction = rng.choice([-1.0, 1.0], (50, 1))
    touched = np.zeros(50, bool)
    for _ in range(500):
        direction = np.where(rng.random((50, 1)) < 0.03, -direction, direction)
        state = world.transition(state, direction.astype(np.float32))
        touched |= np.abs(state["position"]) == TRACK
        assert (np.abs(state["position"]) <= TRACK).all()
        assert not world.terminated(state).any()
    assert touched.all()
    assert np.abs(state["angular_velocity"]).max() < 60


@pytest.mark.parametrize(
    ("numbers", "control", "reward"),
    [
        ((0, 0, 0, 0), 0, 1.0),
        ((0, 7, 0, 0), 0, 1.0),  # the cart may move
        ((0, 0, np.pi, 0), 0, 0.0),
        ((0, 0, np.pi / 2, 0), 0, 0.5),
        ((2, 0, 0, 0), 0, 0.55),
        ((0, 0, 0, -5), 0, 0.55),
        ((0, 0, 0, 0), 1, 0.8),
        ((0, 0, 0, 0), -3, 0.8),  # as much as the motor can give
        ((0, 0, 0, 0), 0.5, 0.95),
        ((1, 0, np.pi / 3, 2.5), 0.5, 0.75 * ((1 + 0.1**0.25) / 2) ** 2 * 0.95),
    ],
    ids=str,
)
def test_swing_up__rewards_known_states(numbers, control, reward):
    action = np.full((1, 1), control, np.float32)
    before = state_of(1, 1, 1, 1)  # must not matter
    np.testing.assert_allclose(
        CartPoleSwingUp().reward(before, action, state_of(*numbers)), [reward], rtol=1e-12, atol=1e-12
    )


def test_swing_up__reward_is_the_control_suites():
    rewards = pytest.importorskip("dm_control.utils.rewards")
    rng = np.random.default_rng(0)
    for numbers, control in zip(rng.normal(0, [2, 2, 3, 5], (200, 4)), rng.uniform(-1, 1, 200), strict=True):
        action = np.full((1, 1), control, np.float32)
        centred = (1 + rewards.tolerance(numbers[0], margin=2)) / 2
        small_control = rewards.tolerance(float(action[0, 0]), margin=1, value_at_margin=0, sigmoid="quadratic")
        small_velocity = (1 + rewards.tolerance(numbers[3], margin=5)) / 2
        expected = (np.cos(numbers[2]) + 1) / 2 * (4 + small_control) / 5 * small_velocity * centred
        state = state_of(*numbers)
        np.testing.assert_allclose(CartPoleSwingUp().reward(state, action, state), [expected], rtol=1e-9)


@pytest.mark.parametrize(("world", "rest"), [(CartPoleSwingUp(), np.pi), (CartPoleBalance(), 0)], ids=["swing", "bal"])
def test_cart_pole__begins_near_rest(world, rest, keys):
    state = world.initial(keys(20_000))
    numbers = np.stack([state[name] for name in NAMES]) - [[0], [0], [rest], [0]]
    assert np.abs(numbers).max() <= 0.05
    for row in numbers:
        counts = np.histogram(row, bins=20, range=(-0.05, 0.05))[0]
        assert ((counts - 1000) ** 2 / 1000).sum() < 19 + 5 * np.sqrt(2 * 19)
    assert np.abs(np.corrcoef(numbers) - np.eye(4)).max() < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("size", [28, 64, 101])
def test_cart_pole__cart_and_tip_are_where_the_factors_say(size):
    world, rng = CartPoleSwingUp(size), np.random.default_rng(0)
    state = dict(zip(NAMES, rng.uniform([-2.4, 0, -9, 0], [2.4, 0, 9, 0], (60, 4)).T, strict=True))
    factors, scale = world.factors(state), size / 5.8
    cart, tip = factors["location.cart"], factors["location.tip"]
    middle = (size - 1) / 2
    np.testing.assert_allclose(cart, np.stack([middle + scale * state["position"], np.full(60, middle)], 1), atol=1e-4)
    pole = np.stack([np.sin(state["angle"]), -np.cos(state["angle"])], axis=1)  # clockwise, y down
    np.testing.assert_allclose(tip - cart, scale * pole, atol=1e-4)
    for name, points in (("location.cart", cart), ("location.tip", tip)):
        assert all(world.factor_space[name].contains(point) for point in points)
    # The pole alone is what changes when it is turned: what is new against the pole turned about is around the tip.
    turned = world.coverage({**state, "angle": state["angle"] + np.pi})
    new = np.clip(world.coverage(state) - turned, 0, 1)[..., 0]
    row, column = np.mgrid[:size, :size]
    found = np.stack([(new * grid).sum((1, 2)) for grid in (column, row)], 1) / new.sum((1, 2))[:, None]
    outside = np.abs(pole[:, 1]) > 0.9  # where neither the rail nor a buffer hides the pole
    assert outside.sum() > 5
    along = ((found - cart) * pole).sum(1)[outside]
    across = ((found - cart) @ [[0, -1], [1, 0]] * pole).sum(1)[outside]
    half_cart, end = 0.25 * scale, scale * 1.12
    np.testing.assert_allclose(along, (half_cart + end) / 2, atol=0.03 * size)
    np.testing.assert_allclose(across, 0, atol=0.25)


def test_cart_pole__is_drawn_in_its_colours():
    frame = CartPoleSwingUp(116).render(state_of(-1.2, 0, np.pi / 2, 0))[0]  # 20 px a metre, middle at 57.5
    assert (frame[54:62, 26] == CART).all()
    assert (frame[57:59, 36:53] == POLE).all()  # a quarter of a turn clockwise: to the right
    assert (frame[:50] == 255).all()
    assert (frame[66:] == 255).all()
    frame = CartPoleSwingUp(116).render(state_of(-1.2, 0, 0, 0))[0]
    assert (frame[37:52, 33:35] == POLE).all()  # up to 1 m, and 0.12 m for its round end
    assert (frame[:35] == 255).all()
