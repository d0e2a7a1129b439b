"""What attacks found, in one file for programs (attacks.json) and one for readers (attacks.md)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine

TITLES = {
    "cheap requests": "Small, cheap requests",
    "fuzz": "Damaged files and bytes",
    "crash": "Killed while label sets are edited",
    "soak": "Mixed load",
    "cluster": "Parts of a cluster end under load",
}
Figures = dict[str, Any]


def write_figures(out: Path, part: str, command: str, figures: Figures) -> None:
    """Replace the figures of one part in both files, and print that part.

    Args:
        out: Folder of the files.
        part: A key of TITLES.
        command: What was run.
        figures: Numbers and texts by name, or rows of tables: lists of such dictionaries.
    """
    out.mkdir(parents=True, exist_ok=True)
    stored = out / "attacks.json"
    found: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {}
    found[part] = {"command": command, "machine": describe_machine(), "figures": figures}
    stored.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    parts = {name: _part(name, found[name]) for name in TITLES if name in found}
    text = "\n".join(["# Attacks: what was done, and what it did", "", *parts.values()])
    (out / "attacks.md").write_text(text, encoding="utf-8")
    sys.stdout.write(parts[part] + "\n")


def _part(name: str, found: dict[str, Any]) -> str:
    machine = found["machine"]
    lines = [f"## {TITLES[name]}", ""]
    lines += [
        f"`{found['command']}`, {machine['date']}, {machine['cores']} cores of {machine['processor']}, "
    ]
    lines += [f"Python {machine['python']}, {machine['versions']}.", ""]
    plain = {key: value for key, value in found["figures"].items() if not isinstance(value, list)}
    lines += [f"- {key}: {_shown(value)}" for key, value in plain.items()]
    for key, rows in found["figures"].items():
        if isinstance(rows, list) and rows:
            lines += ["", f"{key}:", "", *_table(rows)]
    return "\n".join([*lines, ""])


def _table(rows: list[Figures]) -> list[str]:
    columns = list(rows[0])
    cells = [columns, ["---"] * len(columns), *([_shown(row[column]) for column in columns] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in cells]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
