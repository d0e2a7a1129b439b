"""What a run needs before it measures: generated clips, and a bundle of the real architectures.

Both are kept in a folder for the next run: they take minutes, and are the same each time. The bundle is
exported again when the code that exports has changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.clips import repeat_clip, write_benchmark_clip
from benchmarks.machine import describe_machine, sources_digest
from benchmarks.throughput.points import CLIPS, DEMO, EVERYDAY, REAL, BenchmarkDevice, ClipKind

_ROOT = Path(__file__).resolve().parents[2]
_EXPORTER = (_ROOT / "model_export/encoders", _ROOT / "model_export/export")


def prepare(
    work: Path, clips: Collection[str], device: BenchmarkDevice, bundle: Path | None
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Write what is not there yet.

    Args:
        work: The folder.
        clips: Names of CLIPS.
        device: What the bundle is exported for.
        bundle: Of the real architectures, random weights and seed 0; None: it is exported.

    Returns:
        Files of the clips, and directories of all bundles.
    """
    work.mkdir(parents=True, exist_ok=True)
    # Beside the export, which mostly uses one processor; a process, since numpy holds the interpreter's lock.
    with ProcessPoolExecutor(1) as beside:
        files = {name: beside.submit(_clip, work, CLIPS[name]) for name in clips}
        real = bundle or _export(work / f"random-{device}", device)
        found = {name: file.result() for name, file in files.items()}
    return found, {REAL: real, EVERYDAY: _ROOT / "weights/everyday", DEMO: _ROOT / "weights/demo"}


def _clip(work: Path, kind: ClipKind) -> Path:
    path = work / f"{kind.height}p_{kind.gop}_{kind.length_s:g}s.mp4"
    if path.exists():
        return path
    once, begun = path.with_suffix(".once"), path.with_suffix(".part")
    write_benchmark_clip(once, seconds=kind.seconds, height=kind.height, gop=kind.gop)
    if kind.n_times == 1:
        return once.rename(path)
    repeat_clip(once, kind.n_times, begun)
    once.unlink()
    return begun.rename(path)


def _export(out: Path, device: BenchmarkDevice) -> Path:
    """The bundle; one that is there is complete, since export puts it in its place at the end."""
    exporter = f"{sources_digest(*_EXPORTER)}, {describe_machine()['versions']}"
    made_by = out.with_suffix(".made-by")
    if out.exists() and made_by.exists() and made_by.read_text() == exporter:
        return out
    shutil.rmtree(out, ignore_errors=True)
    from typer.testing import CliRunner

    from model_export.cli.export_commands import app

    result = CliRunner().invoke(app, ["clip-clap", "--random-weights", "--device", device, "--out", str(out)])
    if result.exit_code:
        raise SystemExit(result.output)
    made_by.write_text(exporter)
    return out
