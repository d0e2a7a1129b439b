"""What a run of the throughput benchmark measures."""

import pytest

from benchmarks.throughput.points import (
    BASE,
    CLIPS,
    DEMO,
    EVERYDAY,
    OPPONENTS,
    REAL,
    Extent,
    Point,
    Service,
    all_points,
)
from service.settings import Settings

EXTENTS = pytest.mark.parametrize("extent", ["usual", "full"])


@EXTENTS
def test_no_point_is_measured_twice(extent: Extent) -> None:
    """A run is resumed by what its points are called."""
    names = [str(point) for point in all_points("cpu", extent)]
    assert len(names) == len(set(names))


@EXTENTS
def test_points_of_a_bundle_and_of_a_part_stand_together(extent: Extent) -> None:
    """The services with a bundle are started once, and a part is one table."""
    points = all_points("cpu", extent)
    for keys in ([p.bundle for p in points], [(p.bundle, p.part) for p in points]):
        changes = [key for key, before in zip(keys, [None, *keys], strict=False) if key != before]
        assert len(changes) == len(set(keys))


def test_a_run_fits_into_a_quarter_of_an_hour_without_its_preparation() -> None:
    """Clips, a bundle, limits and the starts of services take about five minutes more on two cores."""
    assert sum(point.seconds for point in all_points("cpu", "usual")) < 15 * 60


def test_every_opponent_is_measured_at_the_base_case() -> None:
    """Nothing else can be compared with certainty."""
    base = [p for p in all_points("cpu", "usual") if (p.bundle, p.clip) == (REAL, BASE)]
    assert {*OPPONENTS, "ahse"} <= {point.service for point in base}


def test_clips_are_not_longer_than_the_service_takes_by_default() -> None:
    """Of any length and any number of segments."""
    limits = Settings().decode_limits()
    assert max(kind.length_s for kind in CLIPS.values()) < limits.max_duration_s


def test_a_quick_run_has_the_same_services_with_few_requests() -> None:
    """It shows that everything works, and not how fast."""
    quick, usual = (all_points("cpu", extent) for extent in ("quick", "usual"))
    assert max(point.n_requests for point in quick) == 2
    assert {(p.bundle, p.service) for p in quick} == {(p.bundle, p.service) for p in usual}


def test_a_full_run_asks_opponents_with_as_many_clients_as_this_service() -> None:
    """In all cases that both are asked; what a usual run measures is in it, in the same order."""
    usual, full = all_points("cpu", "usual"), all_points("cpu", "full")
    assert [point for point in full if point in usual] == usual
    most = {(point.case, point.service): 0 for point in full}
    for point in full:
        most[point.case, point.service] = max(most[point.case, point.service], point.clients)
    theirs = {key: n for key, n in most.items() if key[1] in OPPONENTS and (key[0], "ahse") in most}
    assert list(theirs.values()).count(32) >= 10
    assert theirs == {key: most[key[0], "ahse"] for key in theirs}


@pytest.mark.parametrize("bundle", [EVERYDAY, DEMO])
@pytest.mark.parametrize("service", ["ahse", "straightforward"])
def test_a_full_run_asks_for_100_000_new_names(bundle: str, service: Service) -> None:
    """As many a request as the service takes by default."""
    (point,) = (
        point
        for point in all_points("cpu", "full")
        if point.part == "new names" and (point.bundle, point.service) == (bundle, service)
    )
    assert point.names == "new"
    assert point.n_requests * point.n_names == 100_000
    assert point.n_names == Settings().max_labels


def test_a_gpu_gets_more_clients_and_only_the_models_that_are_exported_for_it() -> None:
    """The other bundles have 8-bit graphs for a CPU. Each point is measured once, and a part is one table."""
    points = all_points("cuda", "usual")
    assert max(point.clients for point in points) == 64
    assert len({point.bundle for point in points}) == 1
    assert len({str(point) for point in points}) == len(points)
    parts = [point.part for point in points]
    assert sorted(parts, key=list(dict.fromkeys(parts)).index) == parts


def test_a_point_says_in_a_line_what_it_is() -> None:
    """For the progress of a run."""
    point = Point("clips", "ahse", 32, 48, 1, fields=(("frames", "key"),))
    assert str(point) == f"real architecture, {BASE}, 10 names known, 32 clients, ahse, frames=key"
