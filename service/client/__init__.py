"""The Python client: `from service.client import Client`. It loads none of the service's heavy packages.

answers    the ranked answer for a clip, as frozen dataclasses
values     label sets, jobs, models and the service itself, likewise
errors     what can go wrong
protocol   the request of each address, and how its answer is read
tries      when to send a request again, and what went wrong where that did not help
upload     clips from paths, bytes or open files, with a progress callback
connection what both clients are told
waiting_client, async_client
           `Client` and `AsyncClient`, which send what the protocol says
"""

from service.client.answers import (
    Agreement,
    Answer,
    Guarantee,
    Prediction,
    Receipt,
    Segment,
    SegmentReceipt,
    Tracks,
    TrackScore,
    TrackUse,
)
from service.client.async_client import AsyncClient
from service.client.errors import (
    ClientError,
    ConnectionLostError,
    InvalidArgumentError,
    ServiceError,
    UnreachableError,
)
from service.client.protocol import Question
from service.client.upload import ClipSource, Progress
from service.client.values import (
    Health,
    Info,
    Job,
    JobClip,
    JobResult,
    Label,
    LabelSet,
    LabelSetSummary,
    Limits,
    Metric,
    Model,
)
from service.client.waiting_client import Client

__all__ = [
    "Agreement",
    "Answer",
    "AsyncClient",
    "Client",
    "ClientError",
    "ClipSource",
    "ConnectionLostError",
    "Guarantee",
    "Health",
    "Info",
    "InvalidArgumentError",
    "Job",
    "JobClip",
    "JobResult",
    "Label",
    "LabelSet",
    "LabelSetSummary",
    "Limits",
    "Metric",
    "Model",
    "Prediction",
    "Progress",
    "Question",
    "Receipt",
    "Segment",
    "SegmentReceipt",
    "ServiceError",
    "TrackScore",
    "TrackUse",
    "Tracks",
    "UnreachableError",
]
