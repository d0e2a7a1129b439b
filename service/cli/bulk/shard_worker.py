"""A worker on a node of a cluster: one bundle, one shard at a time, and reports of how far it is.

It knows nothing of the cluster: `on_ray.py` starts it there and reads its reports.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import service
from service.bundle.directory import named_by_path
from service.cli.bulk.plan import Plan, question_hash, read_shard
from service.cli.bulk.results import ShardResults, is_done
from service.cli.bulk.sources import check_schemes, local
from service.cli.clip_files import ClipFile
from service.cli.interrupts import Interrupts
from service.cli.progress import weight
from service.cli.rankers import Asked, LocalRanker
from service.cli.ranking_run import Outputs, RankingRun
from service.errors import AhseError, InvalidOptionError
from service.labels.label import Candidates
from service.registry import load_bundle
from service.settings import Settings, settings_of

_REPORT_S = 1.0


@dataclass(frozen=True)
class Order:
    """What every worker is told.

    Attributes:
        folder: Of the plan, mounted at the same place on every node.
        manifest_digest: Of the plan that is meant.
        bundle: Directory of the bundle; None: the first one that the node is set up for.
        settings: Those that were set where the command runs; a node's own count for the others.
        version: Of this program.
    """

    folder: Path
    manifest_digest: str
    bundle: Path | None
    settings: dict[str, Any]
    version: str


@dataclass(frozen=True)
class Report:
    """What has become of a shard since the report before.

    Attributes:
        n_clips: Clips that are done.
        n_bytes: Their size.
        n_failed: Clips of the whole shard that have failed so far.
        messages: For the user, in the order they came.
        is_published: The shard has its results; in the last report of a shard.
    """

    n_clips: int
    n_bytes: int
    n_failed: int
    messages: tuple[str, ...]
    is_published: bool


class ShardWorker:
    """Ranks the clips of shards, and publishes each shard as the plain command does.

    Args:
        order: What is to be done.
        n_jobs: Clips at once.
    """

    def __init__(self, order: Order, n_jobs: int) -> None:
        self._order = order
        self._n_jobs = n_jobs

    def open(self) -> str:
        """Open the bundle; what keeps this node from working, in words, or nothing."""
        order = self._order
        if service.__version__ != order.version:
            return f"it has ahse {service.__version__}, and this is {order.version}; install the same on both"
        try:
            plan = Plan.read(order.folder)
            if plan.manifest_digest != order.manifest_digest:
                return f"{order.folder} holds another plan there; mount the same folder on every node"
            self._ranker = ranker_of(plan, order.bundle, settings_of(order.settings), self._n_jobs)
        except AhseError as error:
            return error.message
        return ""

    def rank(self, shard: int) -> Iterator[Report]:
        """Work on a shard, and tell every second how far it is."""
        tally = _Tally()
        with ThreadPoolExecutor(1) as beside:
            clips = list(read_shard(self._order.folder, shard))
            names = [clip.name for clip in clips]
            results = ShardResults(self._order.folder, [(shard, names)], tally.message)
            run = RankingRun(
                self._ranker, Interrupts(), Outputs(results, None, as_json=False, how_to_go_on=""), local
            )
            work = beside.submit(run.rank_all, clips, tally)
            is_over = False
            while not is_over:
                wait((work,), _REPORT_S)
                is_over = work.done()
                if is_over:
                    work.result()
                is_published = is_over and is_done(self._order.folder, shard)
                yield Report(*tally.take(), run.n_failed, tally.take_messages(), is_published)


def ranker_of(planned: Plan, directory: Path | None, settings: Settings, n_jobs: int | None) -> LocalRanker:
    """What ranks the clips of a plan here.

    Args:
        planned: The plan.
        directory: Of the bundle; None: the first one of the settings.
        settings: Of this machine.
        n_jobs: Clips at once; None: as many as there are processors.

    Raises:
        InvalidOptionError: The bundle here is not the one that was planned with, or URLs of clips can't be
            opened here.
    """
    check_schemes(planned.schemes)
    directory = directory or settings.bundles[0]
    with named_by_path(directory):
        bundle = load_bundle(directory, settings.runtime())
    if bundle.digest != planned.bundle_digest:
        raise InvalidOptionError(
            f"the plan was made with the bundle {planned.bundle}; the one here is another or has changed: "
            "give its directory, --bundle DIR"
        )
    asked = Asked(Candidates(planned.candidates), planned.options, planned.label_set)
    return LocalRanker(asked, bundle, settings, n_jobs, question_hash(planned))


class _Tally:
    """A display that nobody looks at: it counts, and keeps what is said, until they are taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_clips = self._n_bytes = 0
        self._messages: list[str] = []

    def sent(self, clip: ClipFile) -> Callable[[int, int | None], object]:
        """Ignored: nothing is sent."""
        del clip
        return lambda _, __: None

    def done(self, clip: ClipFile) -> None:
        """Count it."""
        with self._lock:
            self._n_clips += 1
            self._n_bytes += weight(clip)

    def result(self, text: str) -> None:
        """Ignored: results go to files."""

    def message(self, text: str) -> None:
        """Keep it."""
        with self._lock:
            self._messages.append(text)

    def take(self) -> tuple[int, int]:
        """Clips and bytes since the last time."""
        with self._lock:
            taken = self._n_clips, self._n_bytes
            self._n_clips = self._n_bytes = 0
        return taken

    def take_messages(self) -> tuple[str, ...]:
        """What was said since the last time."""
        with self._lock:
            taken, self._messages = tuple(self._messages), []
        return taken
