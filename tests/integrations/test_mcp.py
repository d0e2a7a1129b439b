"""The MCP server with the real client: over standard input and output, and in this process."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, TextContent

from integrations.mcp.server import LocalClips, create_server
from service.client import AsyncClient
from service.client import Client as ServiceClient
from tests.integrations.readme import blocks, filled
from tests.toy import CLASSES

ROOT = Path(__file__).resolve().parents[2]


async def _answer(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    found = await client.call_tool(tool, arguments)
    assert not found.is_error, _text(found)
    assert isinstance(found.structured_content, dict)
    return found.structured_content


def _text(result: CallToolResult) -> str:
    return " ".join(part.text for part in result.content if isinstance(part, TextContent))


def _in_process(url: str, root: Path, talk: Callable[[Client], Awaitable[Any]]) -> Any:
    """Talk to a server in this process."""

    async def run() -> Any:
        async with Client(create_server(AsyncClient(url, retries=0), LocalClips([root]))) as client:
            return await talk(client)

    return asyncio.run(run())


def test_an_assistant_works_as_the_readme_says(service_url: str, clips: dict[str, Path]) -> None:
    """Started as configured there; classify, and edit a label set and classify by it."""
    values = {
        '"python"': json.dumps(sys.executable),
        "http://127.0.0.1:8000": service_url,
        "/home/me/clips": clips["red low"].parent,
        "/home/me/ahse": ROOT,
    }
    config = json.loads(filled(blocks("mcp", "json")[0], values))["mcpServers"]["ahse"]
    clip = str(clips["red low"])

    async def talk() -> None:
        async with Client(StdioServerParameters(**config)) as client:
            answer = await _answer(client, "classify_clip", path=clip, labels=CLASSES, top_k=2)
            assert [one["rank"] for one in answer["predictions"]] == [1, 2]
            assert answer["predictions"][0]["label"] == "red with a low tone"
            assert answer["tracks"]["audio"]["used"]

            made = await _answer(client, "put_label_set", name="tones", labels=["low", "high"])
            assert made["n_labels"] == 2
            await _answer(client, "add_labels", name="tones", labels=["middle", "high"])
            await _answer(client, "remove_label", name="tones", label="high")
            kept = await _answer(client, "get_label_set", name="tones")
            assert [label["name"] for label in kept["labels"]] == ["low", "middle"]
            assert await _answer(client, "list_label_sets") == {"tones": 2}

            answer = await _answer(client, "classify_clip", path="a.mp4", label_set="tones", segment_s="auto")
            assert answer["predictions"][0]["label"] == "low"
            assert [segment["predictions"][0]["label"] for segment in answer["segments"]] == ["low", "low"]
            await _answer(client, "delete_label_set", name="tones")
            assert await _answer(client, "list_label_sets") == {}

    asyncio.run(talk())


def test_the_guarantee_of_a_label_set_is_answered(service_url: str, clips: dict[str, Path]) -> None:
    """With what it holds for: names alone would look like an ordinary answer."""

    async def talk(client: Client) -> dict[str, Any]:
        return await _answer(client, "classify_clip", path="a.mp4", label_set="sure")

    with ServiceClient(service_url) as service:
        service.put_label_set("sure", ["low", "high"], guarantee=0.9)
        answer = _in_process(service_url, clips["red low"].parent, talk)
        service.delete_label_set("sure")
    assert answer["guarantee"]["level"] == 0.9
    assert answer["guarantee"]["holds_for"]


def test_the_readme_lists_every_tool(service_url: str, tmp_path: Path) -> None:
    """And those that only read say so, which assistants need no permission for."""

    async def talk(client: Client) -> Any:
        return (await client.list_tools()).tools

    tools = _in_process(service_url, tmp_path, talk)
    text = (ROOT / "integrations" / "mcp" / "README.md").read_text()
    assert all(f"`{tool.name}`" in text for tool in tools)
    assert len(tools) == 7
    assert {tool.name for tool in tools if tool.annotations.read_only_hint} == {
        "classify_clip",
        "get_label_set",
        "list_label_sets",
    }


def test_only_files_in_the_roots_are_read(service_url: str, tmp_path: Path, clips: dict[str, Path]) -> None:
    """Not by an absolute path, not by dots, not by a link; and nothing is told about files elsewhere."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.mp4").symlink_to(clips["red low"])
    (tmp_path / "beside.mp4").write_bytes(b"secret")
    paths = [str(clips["red low"]), "../beside.mp4", "../missing.mp4", "link.mp4", "/etc/passwd", "/nowhere"]

    async def talk(client: Client) -> list[CallToolResult]:
        return [await client.call_tool("classify_clip", {"path": p, "labels": ["x"]}) for p in paths]

    for answer in _in_process(service_url, root, talk):
        assert answer.is_error
        assert "Only files in these folders" in _text(answer)


@pytest.mark.parametrize("path", ["missing.mp4", "", ".", "a\0b", "x" * 5000])
def test_paths_that_are_no_files_are_errors(service_url: str, tmp_path: Path, path: str) -> None:
    """Of the tool, which the assistant reads; the server goes on."""

    async def talk(client: Client) -> CallToolResult:
        await client.call_tool("classify_clip", {"path": path, "labels": ["x"]})
        return await client.call_tool("classify_clip", {"path": path, "labels": ["x"]})

    answer = _in_process(service_url, tmp_path, talk)
    assert answer.is_error
    assert "no such file" in _text(answer)


def test_the_assistant_reads_the_services_own_reason(service_url: str, clips: dict[str, Path]) -> None:
    """What is wrong and what to do, and where the service should be if it is not there."""
    root = clips["red low"].parent

    async def talk(client: Client) -> CallToolResult:
        return await client.call_tool("classify_clip", {"path": "a.mp4"})

    assert "No labels were given" in _text(_in_process(service_url, root, talk))
    assert "can't be reached" in _text(_in_process("http://127.0.0.1:9", root, talk))
