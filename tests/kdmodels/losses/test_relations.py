"""Properties of the losses on relations: plain loops, stability, invariances, and a test for each well-known slip."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad_and_value, vmap

from kdmodels import losses

Loss = Callable[[Tensor, Tensor], Tensor]
HALF = (torch.float16, torch.bfloat16)


def as_maps(embeddings: Tensor) -> list[Tensor]:
    """Embeddings (B, D) as two maps (B, 1, 2, D) and (B, D, 1, 2), so that one test fits all."""
    both = embeddings.unsqueeze(1) * torch.tensor([[1.0], [2.0]], dtype=embeddings.dtype)  # (B, 2, D)
    return [both.unsqueeze(1), both.mT.unsqueeze(2)]


RELATIONS: dict[str, Loss] = {
    "similarity_preserving": losses.similarity_preserving,
    "relational_distance": losses.relational_distance,
    "relational_angle": losses.relational_angle,
    "distance_metric euclidean": losses.distance_metric,
    "distance_metric cosine": partial(losses.distance_metric, metric="cosine"),
    "probabilistic_transfer": losses.probabilistic_transfer,
}
LOSSES = RELATIONS | {"flow_of_solution": lambda s, t: losses.flow_of_solution(as_maps(s), as_maps(t))}
SCALE_FREE = sorted(set(RELATIONS) - {"distance_metric euclidean"})
SHIFT_FREE = ["relational_distance", "relational_angle", "distance_metric euclidean"]

every_loss = pytest.mark.parametrize("name", LOSSES)
every_relation = pytest.mark.parametrize("name", RELATIONS)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = drawn(0, 6, 4), 3 * drawn(1, 6, 4)
WIDER = drawn(2, 6, 7)


def gradient(loss: Callable[[Tensor], Tensor], student: Tensor) -> Tensor:
    student = student.clone().requires_grad_()
    loss(student).backward()
    assert student.grad is not None
    return student.grad


# Plain loops over the examples, by the papers' formulas.

Rows = list[list[float]]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def cosine(one: list[float], other: list[float]) -> float:
    return dot(one, other) / math.sqrt(dot(one, one) * dot(other, other))


def smooth(difference: float) -> float:
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 1 / 2


def plain_similarity(rows: Rows) -> list[float]:
    grams = [[dot(one, other) for other in rows] for one in rows]
    return [entry / math.sqrt(dot(gram, gram)) for gram in grams for entry in gram]


def plain_distances(rows: Rows) -> list[float]:
    return [math.dist(one, other) for one in rows for other in rows]


def plain_relative_distances(rows: Rows) -> list[float]:
    distances = plain_distances(rows)
    mean = fmean([distance for distance in distances if distance > 0])
    return [distance / mean for distance in distances]


def plain_angles(rows: Rows) -> list[float]:
    found = []
    for at, one, other in product(rows, repeat=3):
        to_one = [a - b for a, b in zip(one, at, strict=True)]
        to_other = [a - b for a, b in zip(other, at, strict=True)]
        found.append(0.0 if at in (one, other) else cosine(to_one, to_other))
    return found


def plain_cosines(rows: Rows) -> list[float]:
    return [cosine(one, other) for one in rows for other in rows]


def plain_probabilities(rows: Rows) -> list[float]:
    similar = [[(cosine(one, other) + 1) / 2 for other in rows] for one in rows]
    return [each / sum(row) for row in similar for each in row]


PLAIN: dict[str, tuple[Callable[[Rows], list[float]], Callable[[float, float], float]]] = {
    "similarity_preserving": (plain_similarity, lambda s, t: (s - t) ** 2),
    "relational_distance": (plain_relative_distances, lambda s, t: smooth(s - t)),
    "relational_angle": (plain_angles, lambda s, t: smooth(s - t)),
    "distance_metric euclidean": (plain_distances, lambda s, t: (s - t) ** 2),
    "distance_metric cosine": (plain_cosines, lambda s, t: (s - t) ** 2),
    "probabilistic_transfer": (plain_probabilities, lambda s, t: t * math.log(t / s)),
}


@every_relation
def test_equals_a_plain_loop_also_of_unequal_widths(name: str) -> None:
    relation, difference = PLAIN[name]
    student, teacher = relation(STUDENT.tolist()), relation(WIDER.tolist())
    expected = fmean([difference(s, t) for s, t in zip(student, teacher, strict=True)])
    found = RELATIONS[name](STUDENT, WIDER).item()
    assert found == pytest.approx(expected, rel=1e-5 if name == "probabilistic_transfer" else 1e-9)  # for its 1e-7


def test_flow_of_solution_equals_a_plain_loop() -> None:
    student = [drawn(0, 2, 3, 4, 6), drawn(1, 2, 2, 2, 3), drawn(2, 2, 4, 2, 3)]
    teacher = [drawn(3, 2, 3, 4, 6), drawn(4, 2, 2, 2, 3), drawn(5, 2, 4, 2, 3)]

    def flow(first: Tensor, second: Tensor, b: int, i: int, j: int) -> float:
        rows, columns = first.shape[2] // second.shape[2], first.shape[3] // second.shape[3]
        total = 0.0
        for y, x in product(range(second.shape[2]), range(second.shape[3])):
            block = first[b, i, y * rows : (y + 1) * rows, x * columns : (x + 1) * columns]
            total += block.mean().item() * second[b, j, y, x].item()
        return total / second[0, 0].numel()

    expected = 0.0
    for k in (0, 1):
        indices = list(product(range(2), range(student[k].shape[1]), range(student[k + 1].shape[1])))
        expected += fmean([(flow(*student[k : k + 2], *at) - flow(*teacher[k : k + 2], *at)) ** 2 for at in indices])
    assert losses.flow_of_solution(student, teacher).item() == pytest.approx(expected)


def test_flow_of_solution_pools_whichever_map_is_larger() -> None:
    small, large = drawn(0, 2, 3, 2, 4), drawn(1, 2, 2, 4, 2)  # taller, but narrower
    pooled = [large.view(2, 2, 2, 2, 2).mean(dim=3), small.view(2, 3, 2, 2, 2).mean(dim=4)]
    expected = torch.einsum("bchw,bdhw->bcd", *pooled).div(4).square().mean()
    for maps in ([large, small], [small, large]):
        torch.testing.assert_close(losses.flow_of_solution(maps, [0 * each for each in maps]), expected)


def test_flow_of_solution_takes_a_teacher_of_another_size() -> None:
    maps = [torch.ones(2, 3, 8, 8), torch.ones(2, 5, 4, 4)]
    assert losses.flow_of_solution(maps, [each[:, :, :2, :2] for each in maps]) == 0


def test_similarity_preserving_flattens_maps() -> None:
    maps = losses.similarity_preserving(STUDENT.view(6, 1, 2, 2), WIDER.view(6, 7, 1, 1))
    assert torch.equal(maps, losses.similarity_preserving(STUDENT, WIDER))


# The traps of the published versions, one by one.


@pytest.mark.parametrize("name", ["similarity_preserving", "distance_metric cosine", "probabilistic_transfer"])
def test_trap_a_zero_row_has_no_endless_slope_and_spoils_no_other(name: str) -> None:
    student = STUDENT.clone()
    student[2] = 0
    assert RELATIONS[name](student, TEACHER).isfinite()
    assert 0 < gradient(lambda e: RELATIONS[name](e, TEACHER), student).norm() < 10


@pytest.mark.parametrize("name", ["distance_metric cosine", "probabilistic_transfer"])
def test_an_embedding_of_zeros_has_no_gradient(name: str) -> None:
    student = STUDENT.clone()
    student[2] = 0
    assert (gradient(lambda e: RELATIONS[name](e, TEACHER), student)[2] == 0).all()


@pytest.mark.parametrize("name", ["similarity_preserving", "distance_metric cosine"])
def test_an_embedding_of_zeros_is_like_no_other(name: str) -> None:
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    # The relations are [[1, 0], [0, 0]] and [[1, 0], [0, 1]].
    assert RELATIONS[name](embeddings, torch.eye(2)).item() == pytest.approx(1 / 4)


@pytest.mark.parametrize("name", SHIFT_FREE)
def test_trap_the_root_of_a_distance_of_zero_has_no_endless_slope(name: str) -> None:
    student = STUDENT.clone()
    student[2] = student[4]
    found = gradient(lambda e: RELATIONS[name](e, TEACHER), student)
    assert 0 < found.norm() < 10


@pytest.mark.parametrize("name", SHIFT_FREE)
def test_trap_distances_of_close_points_are_not_lost_in_rounding(name: str) -> None:
    student = (STUDENT / 8 + 100).float()  # by inner products the distances would be off by a tenth
    expected = RELATIONS[name](student.double(), TEACHER)
    assert RELATIONS[name](student, TEACHER.float()).item() == pytest.approx(expected.item(), rel=1e-4)
    close = gradient(lambda e: RELATIONS[name](e, TEACHER.float()), student)
    torch.testing.assert_close(
        close.double(), gradient(lambda e: RELATIONS[name](e, TEACHER), student.double()), rtol=1e-3, atol=1e-5
    )


def test_trap_examples_that_all_coincide_are_equally_far_from_each_other() -> None:
    apart = torch.full((6, 6), 1.0, dtype=torch.float64).fill_diagonal_(0)
    teacher = torch.tensor(plain_relative_distances(TEACHER.tolist())).view(6, 6)
    expected = fmean([smooth(difference) for difference in (apart - teacher).flatten().tolist()])
    assert losses.relational_distance(0 * STUDENT, TEACHER).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["similarity_preserving", "probabilistic_transfer"])
def test_trap_the_value_falls_as_one_over_the_batch_size(name: str) -> None:
    twice = RELATIONS[name](STUDENT.repeat(2, 1), TEACHER.repeat(2, 1))
    assert twice.item() == pytest.approx(RELATIONS[name](STUDENT, TEACHER).item() / 2, rel=1e-5)


def test_trap_distance_metric_is_not_normalised() -> None:
    doubled = losses.distance_metric(2 * STUDENT, 2 * TEACHER)
    assert doubled.item() == pytest.approx(4 * losses.distance_metric(STUDENT, TEACHER).item())


# What holds for all of them.

COARSE = st.sampled_from([-1e4, -1.0, 0.0, 1.0, 1e4]) | st.integers(-640, 640).map(lambda n: n / 64)
FINE = COARSE | st.just(1e-7) | st.floats(-1e4, 1e4, width=16)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Embeddings of up to 1e4 with zero rows, coinciding rows and single examples; in any precision."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    dtype = draw(st.sampled_from([*HALF, torch.float32, torch.float64]))
    size = math.prod(shape)
    embeddings = st.lists(COARSE if dtype == torch.float16 else FINE, min_size=size, max_size=size)
    student, teacher = (torch.tensor(draw(embeddings), dtype=dtype).view(shape) for _ in range(2))
    alike = draw(st.sampled_from(["drawn", "equal", "zero", "coinciding"]))
    if alike == "zero":
        student[0] = 0
    if alike == "coinciding":
        student[:] = student[0].clone()
    return student, student.clone() if alike == "equal" else teacher


@every_loss
@settings(max_examples=60)
@given(batch=batches())
def test_value_and_gradient_are_finite(name: str, batch: tuple[Tensor, Tensor]) -> None:
    student, teacher = batch
    if name == "flow_of_solution" and student.dtype == torch.float16:
        student, teacher = student / 1000, teacher / 1000  # its gradient is a cube: see test_half_precision.py
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = LOSSES[name](student, teacher)
            found = gradient(lambda e: LOSSES[name](e, teacher), student)
        assert value.shape == ()
        assert value.isfinite()
        assert found.isfinite().all()
        assert value >= -1e-6


@every_loss
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_computed_as_float32(name: str, dtype: torch.dtype) -> None:
    student, teacher = STUDENT.to(dtype), TEACHER.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = LOSSES[name](student, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, LOSSES[name](student.float(), teacher.float()))


@every_relation
def test_one_example_has_no_relations(name: str) -> None:
    assert RELATIONS[name](STUDENT[:1], TEACHER[:1]) < 1e-12
    assert gradient(lambda e: RELATIONS[name](e, TEACHER[:1]), STUDENT[:1]).abs().max() < 1e-12


@every_relation
@settings(max_examples=15)
@given(order=st.permutations(range(6)))
def test_the_order_of_the_examples_changes_nothing(name: str, order: list[int]) -> None:
    torch.testing.assert_close(RELATIONS[name](STUDENT[order], TEACHER[order]), RELATIONS[name](STUDENT, TEACHER))


@every_relation
@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_a_rotation_changes_nothing(name: str, seed: int) -> None:
    rotation = torch.linalg.qr(drawn(seed, 4, 4)).Q
    torch.testing.assert_close(RELATIONS[name](STUDENT @ rotation, TEACHER), RELATIONS[name](STUDENT, TEACHER))


@pytest.mark.parametrize("name", SCALE_FREE)
@settings(max_examples=15)
@given(scale=st.floats(0.1, 100))
def test_a_scale_changes_nothing(name: str, scale: float) -> None:
    scaled = RELATIONS[name](STUDENT * scale, TEACHER)
    torch.testing.assert_close(scaled, RELATIONS[name](STUDENT, TEACHER), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["distance_metric cosine", "probabilistic_transfer"])
def test_a_scale_of_each_embedding_changes_nothing(name: str) -> None:
    scaled = RELATIONS[name](STUDENT * torch.arange(1, 7).unsqueeze(1), TEACHER)
    torch.testing.assert_close(scaled, RELATIONS[name](STUDENT, TEACHER), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", SHIFT_FREE)
@settings(max_examples=15)
@given(shift=st.floats(-50, 50))
def test_a_shift_changes_nothing(name: str, shift: float) -> None:
    torch.testing.assert_close(RELATIONS[name](STUDENT + shift, TEACHER), RELATIONS[name](STUDENT, TEACHER))


def test_the_order_of_the_positions_changes_nothing_in_maps_of_one_size() -> None:
    student, teacher = ([drawn(seed + k, 2, 3, 1, 5) for k in range(3)] for seed in (0, 3))
    order = [3, 1, 4, 0, 2]
    reordered = losses.flow_of_solution([f[..., order] for f in student], [f[..., order] for f in teacher])
    torch.testing.assert_close(reordered, losses.flow_of_solution(student, teacher))


@every_loss
def test_zero_when_the_student_equals_the_teacher_and_not_when_they_differ(name: str) -> None:
    assert LOSSES[name](TEACHER, TEACHER).abs() < 1e-12
    assert gradient(lambda e: LOSSES[name](e, TEACHER), TEACHER).abs().max() < 1e-7
    assert LOSSES[name](STUDENT, TEACHER) > 1e-3


@every_loss
def test_no_gradient_reaches_the_teacher(name: str) -> None:
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    LOSSES[name](student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


@every_relation
def test_batches_of_unequal_size_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"student \(6, 4\) and teacher \(1, 4\)"):
        RELATIONS[name](STUDENT, TEACHER[:1])


@pytest.mark.parametrize("name", sorted(set(RELATIONS) - {"similarity_preserving"}))
def test_maps_are_no_embeddings(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected embeddings \(B, D\)"):
        RELATIONS[name](STUDENT.view(6, 1, 2, 2), TEACHER.view(6, 1, 2, 2))


def test_similarity_preserving_refuses_numbers_for_maps() -> None:
    with pytest.raises(ValueError, match=r"expected features \(B, \.\.\.\)"):
        losses.similarity_preserving(STUDENT[:, 0], TEACHER[:, 0])


def test_distance_metric_knows_two_metrics() -> None:
    with pytest.raises(ValueError, match="'manhattan' is neither 'euclidean' nor 'cosine'"):
        losses.distance_metric(STUDENT, TEACHER, metric="manhattan")


MAPS = as_maps(STUDENT)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (MAPS[:1], MAPS[:1], "1 student and 1 teacher maps"),
        (MAPS, [*MAPS, MAPS[1]], "2 student and 3 teacher maps"),
        (MAPS, [MAPS[0], MAPS[1][:, :1]], r"\(6, 4, 1, 2\) and teacher \(6, 1, 1, 2\)"),
        (MAPS, [each[:1] for each in MAPS], r"teacher \(1, 1, 2, 4\)"),
        ([STUDENT, STUDENT], [TEACHER, TEACHER], r"expected maps \(B, C, H, W\)"),
    ],
)
def test_maps_that_make_no_flow_are_refused(student: list[Tensor], teacher: list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        losses.flow_of_solution(student, teacher)


@every_loss
@pytest.mark.parametrize("stacked", [(0, None), (0, 0)])
def test_stacked_replicas_equal_a_plain_loop(name: str, stacked: tuple[int | None, ...]) -> None:
    def step(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return grad_and_value(lambda e: LOSSES[name](e, teacher))(student)

    students = drawn(2, 3, 6, 4)
    teachers = TEACHER if stacked[1] is None else drawn(3, 3, 6, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an operator without a batching rule warns and runs as a loop
        found = vmap(step, in_dims=stacked)(students, teachers)
    replicas = [step(students[r], teachers if stacked[1] is None else teachers[r]) for r in range(3)]
    for one, other in zip(found, zip(*replicas, strict=True), strict=True):
        torch.testing.assert_close(one, torch.stack(other))
