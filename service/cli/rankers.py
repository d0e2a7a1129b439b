"""Where clips are ranked: here, as the service does it, or at a service. Both give the same answers."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from service.cancellation import CancellationToken
from service.cli.connection import message_of
from service.errors import (
    AhseError,
    ClipUnavailableError,
    InvalidOptionError,
    LabelError,
    NoLabelsError,
    QuotaExceededError,
    RateLimitedError,
)

if TYPE_CHECKING:
    from service.client import Answer, Client, ServiceError
    from service.labels.label import Candidates, Label
    from service.options import ClassifyOptions
    from service.registry import Bundle
    from service.settings import Settings

# What is wrong with the request or its sender would be wrong with every other clip too.
_CONCERNS_ALL = frozenset({401, 403, 404, 405, 421})
_OF_NAMES = frozenset(error.code for error in LabelError.__subclasses__())
_UPLOADS = 4
_FIRST_SERVER_ERROR = 500


@dataclass(frozen=True)
class Question:
    """What is asked of every clip.

    Attributes:
        names: Candidate names; none with a label set.
        label_set: Name of the label set to rank instead.
        bundle: Directory of the bundle, or at a service its name; None: the default one.
        options: The rest.
    """

    names: tuple[str, ...]
    label_set: str | None
    bundle: str | None
    options: ClassifyOptions


class ClipFailedError(Exception):
    """A clip has no answer; the others may have one.

    Attributes:
        code: Of the error.
        message: What is wrong and what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RankingStoppedError(Exception):
    """No further clip can be ranked.

    Attributes:
        message: Why, and what to do.
        is_final: Going on later would not help.
    """

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.is_final = is_final


class Ranker(Protocol):
    """Ranks clips, several at once.

    Attributes:
        question_hash: Equal for equal questions to equal bundles; the `question` of records.
        n_jobs: Clips that are worked on at once.
    """

    question_hash: str
    n_jobs: int

    def rank(self, path: Path, progress: Callable[[int, int | None], object]) -> Answer:
        """The answer for a clip.

        Args:
            path: Of the clip.
            progress: Called with the bytes that were sent and all of them, where any are sent.

        Raises:
            ClipFailedError: It has none.
            RankingStoppedError: No other has one either.
        """

    def stop(self) -> None:
        """Give up the work under way, as far as it can be."""

    def close(self) -> None:
        """Release everything."""


@dataclass(frozen=True)
class Asked:
    """A question with everything that is known before a bundle is opened.

    Attributes:
        candidates: What is ranked.
        options: With what a label set or the settings have for those that were not given.
        label_set: Name of the label set that the candidates are of.
    """

    candidates: Candidates
    options: ClassifyOptions
    label_set: str | None


class LocalRanker:
    """Ranks in this process, with decoders beside it, as the service is set up.

    Args:
        asked: What is asked.
        bundle: The models.
        settings: From the environment.
        n_jobs: Clips at once; None: as many as there are processors.
        question_hash: Of the question.
    """

    def __init__(
        self, asked: Asked, bundle: Bundle, settings: Settings, n_jobs: int | None, question_hash: str
    ) -> None:
        from service.batch.batched_encoders import Batching
        from service.classifier import Classifier
        from service.decode.pool import DecodePool
        from service.embed.embedder import LabelEmbedder
        from service.process import n_processors, use_one_thread_per_product

        use_one_thread_per_product()
        self._options, self._label_set = asked.options, asked.label_set
        batching = Batching(settings.budgets(), _Unobserved())
        self._bundle = replace(bundle, encoders=batching.wrap(bundle.encoders))
        self.n_jobs = n_jobs or n_processors()
        self.question_hash = question_hash
        self._token = CancellationToken()
        self._decoder = DecodePool(settings.decode_limits(), self.n_jobs)
        self._classifier = Classifier(self._decoder.decode, LabelEmbedder(settings.label_cache_bytes))
        self._names = self._classifier.embed(self._bundle, asked.candidates, self._options).finish()

    def rank(self, path: Path, progress: Callable[[int, int | None], object]) -> Answer:
        """Decode, encode, rank."""
        from service.api.answer import make_answer
        from service.client import Answer

        del progress  # nothing is sent
        try:
            with self._token.active():
                result = self._classifier.classify(path, self._bundle, self._names, self._options)
        except AhseError as error:
            raise ClipFailedError(error.code, error.message) from error
        answer = make_answer(
            result,
            request_id="",
            label_set=self._label_set,
            top_k=self._options.top_k,
            timings_ms=result.timings_ms,
        )
        return Answer.read(answer.model_dump(mode="json"))

    def stop(self) -> None:
        """Kill the decoders that work, and end encodings at their next step."""
        self._token.cancel()

    def close(self) -> None:
        """End the decoders."""
        self._decoder.close()


class RemoteRanker:
    """Sends clips to a running service.

    Args:
        question: What is asked.
        client: Of the service.
        n_jobs: Clips at once; None: 4.

    Raises:
        ClientError: The service can't be asked.
        LabelError: The labels are not acceptable, or the set is empty.
    """

    def __init__(self, question: Question, client: Client, n_jobs: int | None) -> None:
        _labels(question.names, client.info().limits.max_labels)
        label_set = client.label_set(question.label_set) if question.label_set else None
        if label_set is not None:
            _check_not_empty(label_set.name, label_set.n_labels)
        model = client.model(question.bundle or client.info().default_bundle)
        etag, n_labels = (label_set.etag, label_set.n_labels) if label_set else (None, len(question.names))
        self.question_hash = _question_hash(question, etag, model.digest)
        self._expected = model.id, model.version, n_labels
        self.n_jobs = n_jobs or _UPLOADS
        self._client = client
        self._question = question

    def rank(self, path: Path, progress: Callable[[int, int | None], object]) -> Answer:
        """Upload, wait."""
        from service.client import ClientError, ServiceError, UnreachableError

        try:
            answer = self._ask(path, progress)
        except OSError as error:
            unreadable = ClipUnavailableError()
            raise ClipFailedError(unreadable.code, unreadable.message) from error
        except UnreachableError as error:
            raise RankingStoppedError(error.message) from error
        except ServiceError as error:
            self._stop_if_all_are_concerned(error)
            is_plain = error.status < _FIRST_SERVER_ERROR or not error.request_id
            named = "" if is_plain else f" (request {error.request_id})"
            raise ClipFailedError(error.code, error.detail + named) from error
        except ClientError as error:
            raise ClipFailedError(error.code, error.message) from error
        if (answer.bundle, answer.bundle_version, answer.n_labels) != self._expected:
            raise RankingStoppedError(
                "The bundle or the label set of the service has changed since this run began, and answers of "
                "both would be mixed: rank all clips again, into another file.",
                is_final=True,
            )
        return answer

    def _ask(self, path: Path, progress: Callable[[int, int | None], object]) -> Answer:
        asked = self._question
        return self._client.classify(
            path,
            labels=None if asked.label_set else asked.names,
            label_set=asked.label_set,
            bundle=asked.bundle,
            templates=asked.options.templates,
            top_k=asked.options.top_k,
            calibration=asked.options.beta,
            guarantee=asked.options.guarantee,
            segment_s=asked.options.segment_s,
            frames=asked.options.frames,
            audio_windows=asked.options.audio_windows,
            progress=progress,
        )

    def _stop_if_all_are_concerned(self, error: ServiceError) -> None:
        """Raise what ends the run, unless the error is about one clip."""
        is_of_names = error.code in _OF_NAMES
        # That quota is of bytes: the clip is larger than all that the key may send in a day.
        if is_of_names or (error.status in _CONCERNS_ALL and error.code != QuotaExceededError.code):
            message = f"{message_of(error)} [{error.code}]"
            raise RankingStoppedError(message, is_final=is_of_names) from error
        wait_s = error.retry_after_s or 0
        if error.code == RateLimitedError.code and wait_s > self._client.max_wait_s:
            again = datetime.now().astimezone() + timedelta(seconds=wait_s)
            raise RankingStoppedError(
                f"{error.detail} The service takes more from {again:%Y-%m-%d %H:%M} on. [{error.code}]"
            ) from error

    def stop(self) -> None:
        """Nothing: the service notices when the connection ends with the program."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class _Unobserved:
    """Takes the figures of the queues, which nobody reads here."""

    def rows_waiting(self, encoder: str, change: int) -> None:
        """Ignored."""

    def batch_ran(self, encoder: str, n_rows: int) -> None:
        """Ignored."""


def _labels(names: tuple[str, ...], max_labels: int) -> tuple[Label, ...]:
    """Checked as the service checks them, before any clip is looked at."""
    from service.labels.label import check_labels, make_label

    labels = tuple(map(make_label, names))
    check_labels(labels, max_labels, may_be_empty=True)
    return labels


def _check_not_empty(name: str, n_labels: int) -> None:
    if not n_labels:
        raise NoLabelsError(f"label set {name!r} is empty; add labels to it")


def ranker_here(question: Question, settings: Settings, n_jobs: int | None) -> LocalRanker:
    """A ranker in this process.

    Args:
        question: What is asked.
        settings: From the environment.
        n_jobs: Clips at once; None: as many as there are processors.
    """
    from service.bundle.directory import named_by_path
    from service.registry import load_bundle

    question = _with_frames(question, settings)
    asked = ask_here(question, settings)
    directory = Path(question.bundle) if question.bundle else settings.bundles[0]
    with named_by_path(directory):
        bundle = load_bundle(directory, settings.runtime())
    version = asked.candidates.version
    question_hash = _question_hash(question, None if version is None else version.etag, bundle.digest)
    return LocalRanker(asked, bundle, settings, n_jobs, question_hash)


def _with_frames(question: Question, settings: Settings) -> Question:
    """With the frames that the settings choose in place of the usual ones, since answers depend on them."""
    if question.options.frames is not None or settings.frames == "exact":
        return question
    return replace(question, options=question.options.model_copy(update={"frames": settings.frames}))


def ask_here(question: Question, settings: Settings) -> Asked:
    """The labels that were given, or those of a set in the data directory; its templates and guarantee.

    Raises:
        LabelError: The labels are not acceptable, or the set is empty.
        UnknownLabelSetError: There is no such set.
    """
    from service.cli.local_label_sets import LocalLabelSets
    from service.labels.label import Candidates

    labels, options = _labels(question.names, settings.max_labels), question.options
    if question.label_set is None:
        candidates, templates, guarantee = Candidates(labels), None, None
    else:
        with contextlib.closing(LocalLabelSets(settings)) as store:
            label_set = store.stored(question.label_set)
        _check_not_empty(label_set.name, len(label_set.labels))
        candidates, templates, guarantee = label_set.candidates, label_set.templates, label_set.guarantee
    given = {
        "frames": options.frames or settings.frames,
        "templates": options.templates or templates,
        "guarantee": options.guarantee_or(guarantee),
    }
    return Asked(candidates, options.model_copy(update=given), question.label_set)


def _question_hash(question: Question, etag: str | None, digest: str) -> str:
    asked = question.options.model_dump(mode="json")
    whole = json.dumps([question.names, question.label_set, etag, asked, digest])
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def read_question(
    names: tuple[str, ...], label_set: str | None, bundle: str | None, **options: object
) -> Question:
    """What a command line asks.

    Args:
        names: Candidate names.
        label_set: Name of the label set to rank instead.
        bundle: As in `Question`.
        options: Those of `ClassifyOptions` as they were given; None, or an empty list: not given.

    Raises:
        InvalidOptionError: There are candidates in both ways, or an option is not acceptable.
        InvalidTemplateError: A template is not.
        NoLabelsError: There are no candidates.
    """
    from service.options import ClassifyOptions, read_options

    given = {name: value for name, value in options.items() if value not in (None, [])}
    question = Question(names, label_set, bundle, read_options(given, ClassifyOptions))
    if names and label_set:
        raise InvalidOptionError("Give either labels or --label-set, not both.")
    if not names and label_set is None:
        raise NoLabelsError("no labels were given; give names with --label, --labels-file or --label-set")
    return question
