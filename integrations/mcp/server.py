"""The tools that an assistant gets, each one request to the service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from service.client import AsyncClient, ClientError

_INSTRUCTIONS = (
    "AHSE ranks candidate names for a clip by its picture and sound together. Names are free text and need "
    "no training: describe what can be seen and heard. `score` is a probability among the candidates; "
    "`unknown` near 1 means that perhaps none of them fits, whatever their scores."
)
# What an assistant needs of an answer; the rest is about the request.
_PARTS = (
    *("predictions", "unknown", "guarantee", "tracks", "segments", "duration_s"),
    *("bundle", "bundle_notice", "warnings"),
)
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_ADDS = ToolAnnotations(destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_REMOVES = ToolAnnotations(destructive_hint=True, idempotent_hint=True, open_world_hint=False)

Value = TypeVar("Value")
Name = Annotated[str, Field(description="of the label set: letters, digits, dots, dashes, underscores")]
Labels = Annotated[list[str], Field(description="names in plain words, such as 'a dog barking'")]


class LocalClips:
    """The files that may be sent to the service.

    Args:
        roots: Folders; only files in them, or in folders in them, are clips.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = [root.resolve(strict=True) for root in roots]

    def find(self, path: str) -> Path:
        """A file by its path, absolute or in one of the roots. Links are followed before it is checked.

        Raises:
            ToolError: Not in a root, whether there is such a file or not; or no file.
        """
        try:
            candidates = [(root / path).resolve() for root in self._roots]
            inside = [one for one in candidates if any(one.is_relative_to(root) for root in self._roots)]
            if not inside:
                roots = ", ".join(str(root) for root in self._roots)
                raise ToolError(f"Only files in these folders can be classified: {roots}")
            found = next((one for one in inside if one.is_file()), None)
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, links in a circle
            found = None
        if found is None:
            raise ToolError("There is no such file.")
        return found


def create_server(service: AsyncClient, clips: LocalClips) -> MCPServer[None]:
    """The server with its tools.

    Args:
        service: Answers.
        clips: What may be classified.
    """

    @asynccontextmanager
    async def lifespan(_: MCPServer[None]) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await service.aclose()

    server = MCPServer[None]("ahse", instructions=_INSTRUCTIONS, lifespan=lifespan, log_level="WARNING")
    _add_classify(server, service, clips)
    _add_label_sets(server, service)
    return server


def _add_classify(server: MCPServer[None], service: AsyncClient, clips: LocalClips) -> None:
    @server.tool(annotations=_READS)
    async def classify_clip(
        path: Annotated[str, Field(description="of a video or sound file on this machine")],
        labels: Annotated[
            list[str] | None, Field(description="candidate names, such as ['a dog barking', 'a siren']")
        ] = None,
        label_set: Annotated[str | None, Field(description="a stored label set in place of labels")] = None,
        segment_s: Annotated[
            float | Literal["auto"] | None,
            Field(description="also rank each segment of so many seconds, or of the model's own length"),
        ] = None,
        top_k: Annotated[int, Field(ge=1, le=100, description="number of predictions")] = 5,
    ) -> dict[str, Any]:
        """Rank candidate names for one local clip by its picture and sound, best first."""
        answer = await _answered(
            service.classify(
                clips.find(path), labels=labels, label_set=label_set, segment_s=segment_s, top_k=top_k
            )
        )
        return {part: found for part in _PARTS if (found := answer.document.get(part)) is not None}


def _add_label_sets(server: MCPServer[None], service: AsyncClient) -> None:
    @server.tool(annotations=_READS)
    async def list_label_sets() -> dict[str, int]:
        """Names of the stored label sets, and the number of labels in each."""

        async def read() -> dict[str, int]:
            return {one.name: one.n_labels async for one in service.label_sets()}

        return await _answered(read())

    @server.tool(annotations=_READS)
    async def get_label_set(name: Name) -> dict[str, Any]:
        """One label set with all its labels."""
        return (await _answered(service.label_set(name))).as_document()

    @server.tool(annotations=_REMOVES)
    async def put_label_set(
        name: Name,
        labels: Labels,
        templates: Annotated[
            list[str] | None, Field(description="prompts around each name, such as 'a video of a {}.'")
        ] = None,
    ) -> dict[str, Any]:
        """Create a label set, or replace all of one."""
        return (await _answered(service.put_label_set(name, labels, templates=templates))).as_document()

    @server.tool(annotations=_ADDS)
    async def add_labels(name: Name, labels: Labels) -> dict[str, Any]:
        """Add labels to a label set; those that it has already stay as they are."""
        return (await _answered(service.add_labels(name, labels))).as_document()

    @server.tool(annotations=_REMOVES)
    async def remove_label(name: Name, label: str) -> dict[str, Any]:
        """Take one label out of a label set."""
        return (await _answered(service.remove_label(name, label))).as_document()

    @server.tool(annotations=_REMOVES)
    async def delete_label_set(name: Name) -> str:
        """Delete a label set."""
        await _answered(service.delete_label_set(name))
        return f"Label set {name} is deleted."


async def _answered(answer: Awaitable[Value]) -> Value:
    """An answer of the service; its reason and remedy where there is none.

    Raises:
        ToolError: The service's own words, which the assistant reads.
    """
    try:
        return await answer
    except ClientError as error:
        raise ToolError(error.message) from error
