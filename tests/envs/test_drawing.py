from __future__ import annotations

import numpy as np
import pytest

from envs.drawing import CHUNK, Canvas, DrawnWorld, View

HEIGHT, WIDTH = 40, 50
RED, GREEN, BLUE = (255, 0, 0), (0, 200, 0), (0, 0, 250)
COUNT = 1 / 255  # the step in which coverage is stored
shapes = pytest.mark.parametrize("shape", ["disc", "capsule", "box", "polygon"])


def blank(n=1, colour=(255, 255, 255)) -> Canvas:
    return Canvas(np.full((n, HEIGHT, WIDTH, 3), colour, np.uint8))


def coverage(shape, *arguments, n=1) -> np.ndarray:
    """What a shape covers, from 0 to 1: [n, H, W]."""
    canvas = Canvas(np.zeros((n, HEIGHT, WIDTH, 1), np.uint8))
    getattr(canvas, shape)(*arguments, RED)
    return canvas.pixels[..., 0] / 255


def random_shapes(shape, n, seed=0) -> list[np.ndarray]:
    """Arguments of n shapes of mixed sizes, many of them partly or wholly outside the frame."""
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform([-15, -15], [65, 55], (n, 2)), np.exp(rng.uniform(-0.5, 4, n))[:, None]
    angle = rng.uniform(0, 2 * np.pi, n)[:, None]
    if shape == "disc":
        return [centre, size[:, 0] / 2]
    if shape == "capsule":
        along = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * size
        along[:20] = 0  # as a disc
        return [centre, centre + along, rng.uniform(0.5, 5, n)]
    if shape == "box":
        return [centre, centre + size * rng.uniform(0.05, 1, (n, 2))]
    turns = np.cumsum(rng.uniform(0.1, 1.2, (n, 5)), axis=1) + angle  # corners on a circle, some of them close
    turns[::2] = turns[::2, ::-1]  # in both directions
    return [centre[:, None] + size[:, None] / 2 * np.stack([np.cos(turns), np.sin(turns)], axis=-1)]


# --- a plain evaluation of the signed distances, one picture at a time, over the whole frame ---

POINTS = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).astype(float)  # [H, W, (x, y)]


def line_distance(a, b) -> np.ndarray:
    """To the line from a to b: to a before it, to b beyond it."""
    from_a, from_b = (np.linalg.norm(POINTS - end, axis=-1) for end in (a, b))
    length = np.linalg.norm(b - a)
    if length == 0:
        return from_a
    along = (POINTS - a) @ (b - a) / length
    beside = np.sqrt(np.maximum(from_a**2 - along**2, 0))
    return np.where(along < 0, from_a, np.where(along > length, from_b, beside))


def polygon_distance(corners) -> np.ndarray:
    """The largest distance to the line of an edge or to a side of the bounding box; negative on the centroid's side."""
    middle = corners.mean(axis=0)
    outside = [corners.min(axis=0) - POINTS, POINTS - corners.max(axis=0)]
    distance = np.concatenate(outside, axis=-1).max(axis=-1)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        normal = np.array([b[1] - a[1], a[0] - b[0]]) / np.linalg.norm(b - a)
        distance = np.maximum(distance, (POINTS - a) @ normal * -np.sign((middle - a) @ normal))
    return distance


def plain_coverage(shape, arguments) -> np.ndarray:
    """[H, W], of the arguments of one shape."""
    if shape == "box":
        low, high = arguments
        return np.clip(np.minimum(POINTS + 0.5, high) - np.maximum(POINTS - 0.5, low), 0, 1).prod(axis=-1)
    if shape == "polygon":
        return np.clip(0.5 - polygon_distance(*arguments), 0, 1)
    return np.clip(0.5 + arguments[-1] - line_distance(arguments[0], arguments[-2]), 0, 1)


@shapes
def test_coverage__equals_a_plain_evaluation_over_the_whole_frame(shape):
    arguments = random_shapes(shape, 300)
    found = coverage(shape, *arguments, n=300)
    wanted = np.stack([plain_coverage(shape, [argument[i] for argument in arguments]) for i in range(300)])
    np.testing.assert_allclose(found, wanted, atol=0.51 * COUNT + 1e-4)
    touched = wanted.any(axis=(1, 2))
    assert 100 < touched.sum() < 280  # others are outside
    assert ((wanted[:, [0, -1]].any(axis=(1, 2)) | wanted[..., [0, -1]].any(axis=(1, 2))) & touched).sum() > 50


@shapes
def test_shape__does_not_depend_on_what_is_drawn_beside_it(shape):
    n = 2 * CHUNK + 5
    arguments = random_shapes(shape, n)
    together = coverage(shape, *arguments, n=n)
    for i in range(n):
        alone = coverage(shape, *(argument[i : i + 1] for argument in arguments))
        np.testing.assert_array_equal(alone[0], together[i])


@shapes
def test_shape__wholly_outside_leaves_the_picture_alone(shape):
    arguments = {
        "disc": [(0, 0), 3.0],
        "capsule": [(-5, 0), (4, 3), 2.0],
        "box": [(-4, -4), (6, 3)],
        "polygon": [[(-5, -5), (7, -3), (0, 6)]],
    }[shape]
    for x, y in ((-20, 5), (70, 5), (25, -20), (25, 60), (-20, -20), (1000, -1000)):
        moved = [np.add(argument, (x, y)) if np.ndim(argument) else argument for argument in arguments]
        assert not coverage(shape, *moved).any()
    assert coverage(shape, *[np.add(a, (25, 20)) if np.ndim(a) else a for a in arguments]).any()


# --- areas, in px ---


@pytest.mark.parametrize("radius", [0.5, 1.0, 3.3, 12.0])
def test_disc__has_the_area_of_a_disc(radius):
    centre = np.random.default_rng(0).uniform([15, 15], [35, 25], (50, 2))
    area = coverage("disc", centre, radius, n=50).sum(axis=(1, 2))
    # An edge that ramps over 1 px adds ∫ = π((r + ½)³ − (r − ½)³)/3 − πr² = π/12.
    np.testing.assert_allclose(area.mean(), np.pi * radius**2 + np.pi / 12, rtol=0.01)
    np.testing.assert_allclose(area, area.mean(), atol=0.25 + 0.03 * radius)


def test_capsule__has_the_area_of_a_capsule():
    rng = np.random.default_rng(0)
    angle, start = rng.uniform(0, 2 * np.pi, 50), rng.uniform([20, 17], [30, 23], (50, 2))
    end = start + 10 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    area = coverage("capsule", start, end, 2.5, n=50).sum(axis=(1, 2))
    np.testing.assert_allclose(area, np.pi * 2.5**2 + np.pi / 12 + 2 * 2.5 * 10, atol=0.4)


def test_box__has_exactly_its_area():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 20, (50, 2))
    side = rng.uniform(0.05, 18, (50, 2))  # some thinner than a pixel
    covered = coverage("box", low, low + side, n=50)
    pixels = (covered > 0).sum(axis=(1, 2))
    assert (np.abs(covered.sum(axis=(1, 2)) - side.prod(axis=1)) <= 0.51 * COUNT * (pixels + 4)).all()


def test_box__on_whole_pixels_is_sharp_and_an_empty_one_is_nothing():
    found = coverage("box", (9.5, 4.5), (12.5, 6.5))[0]
    assert (found[5:7, 10:13] == 1).all()
    assert found.sum() == 6
    assert not coverage("box", (10, 5), (10, 9)).any()
    assert not coverage("box", (12, 9), (10, 5)).any()  # corners the wrong way round


@pytest.mark.parametrize("corners", [3, 4, 6])
def test_polygon__has_about_its_area(corners):
    turns = np.arange(corners) / corners * 2 * np.pi + np.linspace(0, 2, 30)[:, None]
    points = [25, 20] + 14 * np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    area = coverage("polygon", points, n=30).sum(axis=(1, 2))
    np.testing.assert_allclose(area, corners / 2 * 14**2 * np.sin(2 * np.pi / corners), rtol=0.01)


def test_polygon__upright_is_the_box():
    low, high = np.array([[8.5, 4.5]]), np.array([[20.5, 10.5]])
    corners = [(8.5, 4.5), (20.5, 4.5), (20.5, 10.5), (8.5, 10.5)]
    np.testing.assert_array_equal(coverage("polygon", corners), coverage("box", low, high))


def test_polygon__may_have_its_corners_in_either_direction_from_any_and_twice():
    (points,) = random_shapes("polygon", 100)
    found = coverage("polygon", points, n=100)
    repeated = [points[:, [0, 0, 1, 2, 3, 3, 4]], points[:, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]]]
    straight = np.concatenate([points[:, :1], (points[:, :1] + points[:, 1:2]) / 2, points[:, 1:]], axis=1)
    nearly = repeated[1] + np.random.default_rng(0).uniform(-1e-4, 1e-4, repeated[1].shape)
    for same in (points[:, ::-1], np.roll(points, 2, axis=1), *repeated, nearly, straight):
        np.testing.assert_allclose(coverage("polygon", same, n=100), found, atol=1.01 * COUNT)


# --- colours and layers ---


def test_colour__is_laid_over_what_is_there_by_coverage():
    canvas = blank(colour=(200, 100, 50))
    canvas.box((9.5, 9.5), (12.75, 19.5), (0, 255, 60))
    pixels = canvas.pixels[0]
    assert (pixels[10:20, 10:13] == (0, 255, 60)).all()
    assert (pixels[10:20, 13] == (150, 139, 53)).all()  # a quarter: 200·¾, 100·¾ + 255/4, 50·¾ + 60/4, rounded
    assert (pixels[:, 14:] == (200, 100, 50)).all()


def test_layers__later_ones_are_on_top():
    canvas = blank()
    canvas.disc((20, 20), 9, RED)
    canvas.box((15.5, 15.5), (24.5, 24.5), GREEN)
    canvas.capsule((20, 20), (20, 35), 2, BLUE)
    pixels = canvas.pixels[0]
    assert (pixels[20, 13] == RED).all()
    assert (pixels[17, 17] == GREEN).all()
    assert (pixels[22, 20] == BLUE).all()
    assert (pixels[33, 20] == BLUE).all()
    assert (pixels[33, 30] == 255).all()


@shapes
def test_colour__one_for_each_picture(shape):
    n = CHUNK + 7
    arguments, colours = random_shapes(shape, n), np.random.default_rng(1).integers(0, 256, (n, 3))
    canvas = blank(n)
    getattr(canvas, shape)(*arguments, colours)
    covered = coverage(shape, *arguments, n=n)[..., None]
    np.testing.assert_allclose(canvas.pixels, 255 + (colours[:, None, None] - 255.0) * covered, atol=1.01)
    for i in (0, CHUNK - 1, CHUNK, n - 1):
        single = blank()
        getattr(single, shape)(*(argument[i] for argument in arguments), colours[i])  # without the axis of pictures
        np.testing.assert_array_equal(single.pixels[0], canvas.pixels[i])


def test_mask__is_the_union_of_what_is_drawn_whatever_the_colours():
    first, second = ((20, 20), 7.3), ((27, 22), 6.1)
    canvas = Canvas(np.zeros((1, HEIGHT, WIDTH, 1), np.uint8))
    canvas.disc(*first, (0, 0, 0))
    canvas.disc(*second, (9, 0, 30))
    a, b = coverage("disc", *first), coverage("disc", *second)
    np.testing.assert_allclose(canvas.pixels[..., 0] / 255, 1 - (1 - a) * (1 - b), atol=1.01 * COUNT)


def test_canvas__draws_on_the_pictures_that_it_was_given():
    pixels = np.zeros((3, 20, 20, 3), np.uint8)
    Canvas(pixels).disc([(4, 4), (9, 9), (14, 14)], 2, RED)
    assert (pixels[[0, 1, 2], [4, 9, 14], [4, 9, 14]] == RED).all()
    assert (pixels[0, 9, 9] == 0).all()


# --- where things are ---


@pytest.mark.parametrize("shape", [(28, 28), (48, 96)])
def test_view__maps_the_world_onto_the_frame(shape):
    view = View(shape, centre=(2, -1), width=4)
    height, width = shape
    np.testing.assert_allclose(view((2, -1)), [(width - 1) / 2, (height - 1) / 2])
    scale = width / 4
    assert view.scale == scale
    # The edges of the frame are half a pixel beyond the centres of the outermost pixels; y is up.
    tall = 4 * height / width
    np.testing.assert_allclose(view([(0, -1), (4, -1)])[:, 0], [-0.5, width - 0.5])
    np.testing.assert_allclose(view([(2, -1 + tall / 2), (2, -1 - tall / 2)])[:, 1], [-0.5, height - 0.5])
    points = np.random.default_rng(0).normal(size=(5, 3, 2))
    np.testing.assert_allclose(view(points) - view((0, 0)), points * [scale, -scale], atol=1e-9)


def test_view__space_holds_the_points_between_two_corners():
    view = View((64, 64), centre=(0.3, 0.1), width=2.7)
    space = view.space((-1, -2), (1.5, 0.7))
    corners = view([(-1, -2), (1.5, 0.7), (-1, 0.7), (1.5, -2)]).astype(np.float32)
    assert all(space.contains(corner) for corner in corners)
    np.testing.assert_allclose([space.low, space.high], [corners.min(axis=0), corners.max(axis=0)])


@pytest.mark.parametrize("shape", [(0, 5), (64, -1), (64.0, 64), ("a", 64)])
def test_view__refuses_sides_that_are_not_whole_numbers(shape):
    with pytest.raises(ValueError, match="the sides of a frame must be whole numbers of px, at least 1, got "):
        View(shape, centre=(0, 0), width=1)


# --- worlds ---


class Scene(DrawnWorld):
    """A wall that is always there, and a disc."""

    frame_shape = (HEIGHT, WIDTH, 3)
    backdrop = (250, 240, 230)
    drawn = 0

    def initial(self, key):
        return {"place": np.zeros((len(key), 2))}

    def transition(self, state, action):
        return state

    def factors(self, state):
        return {}

    def scenery(self, canvas):
        self.drawn += 1
        canvas.box((4.5, -9), (9.5, 99), BLUE)

    def draw(self, canvas, state):
        canvas.disc(state["place"], 3, RED)


def test_drawn_world__draws_its_scenery_once_and_the_rest_on_top():
    world, state = Scene(), {"place": np.array([[20.0, 10], [9, 30], [-40, 0]])}
    frames = world.render(state)
    np.testing.assert_array_equal(frames, world.render(state))
    assert world.drawn == 1
    assert (frames[:, 20, 5:10] == BLUE).all()
    assert (frames[0, 10, 20] == frames[1, 30, 9]).all()
    assert (frames[1, 30, 9] == RED).all()
    assert (frames[2, :, 10:] == world.backdrop).all()
    covered = world.coverage(state)
    assert covered.dtype == np.float32
    wall, disc = coverage("box", (4.5, -9), (9.5, 99)), coverage("disc", state["place"], 3, n=3)
    np.testing.assert_allclose(covered[..., 0], 1 - (1 - wall) * (1 - disc), atol=1.01 * COUNT)
