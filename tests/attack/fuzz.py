"""10,000 damaged media in decoding processes, and every parser for a minute guided by coverage.

    python -m tests.attack.fuzz [--media 10000] [--seconds 60] [--seed 1] [--out build/attack]

Ends with code 1 after an exception that is not documented, whose input is then below build/fuzz, and where a
parser could not start.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.servers import memory_kib
from service.decode.pool import DecodePool
from service.process import n_processors
from service.settings import Settings
from tests.attack.damage import mutate
from tests.attack.figures import Figures, write_figures
from tests.attack.media_mutations import Outcome, decode_all, write_media
from tests.attack.parsers import PARSERS

SAVED = Path("build/fuzz")
_PROGRESS_EVERY = 500
_MAX_INPUT_BYTES = 16_384
_SLOW_INPUT_S = 20


def main() -> None:
    """Attack, and write what was found."""
    options = _options()
    media, media_faults = _attack_media(options.media, options.seed)
    parsers = [_attack_parser(name, options.seconds, options.seed) for name in PARSERS]
    n_faults = media_faults + sum(row["faults"] for row in parsers)
    command = "python -m tests.attack.fuzz"
    command += f" --media {options.media} --seconds {options.seconds} --seed {options.seed}"
    figures: Figures = {"undocumented exceptions": n_faults, **media, "Parsers, guided by coverage": parsers}
    write_figures(options.out, "fuzz", command, figures)
    if n_faults:
        raise SystemExit(f"{n_faults} undocumented exceptions; the inputs are below {SAVED}")


def _attack_media(count: int, seed: int) -> tuple[Figures, int]:
    outcomes: list[Outcome] = []
    peak_kib, started = 0, time.perf_counter()
    limits = Settings().decode_limits()
    with tempfile.TemporaryDirectory() as name, DecodePool(limits, n_processors()) as pool:
        media = write_media(Path(name))
        for outcome in decode_all(pool, media, seed, range(count), Path(name)):
            outcomes.append(outcome)
            if outcome.fault is not None:
                _save("media", str(outcome.number), mutate(media, seed, outcome.number))
                _say(f"mutation {outcome.number}: {outcome.fault}")
            if len(outcomes) % _PROGRESS_EVERY == 0:
                processes = [one._process for one in pool._workers if one._process is not None]
                peak_kib = max([peak_kib, *(memory_kib(one.pid, "VmHWM") for one in processes)])
                _say(f"{len(outcomes)} of {count} media")
    slowest = max(outcomes, key=lambda one: one.seconds)
    kinds = Counter(one.ended_in for one in outcomes)
    figures: Figures = {
        "media": count,
        "whole files behind them": len(media),
        "seconds for all media": time.perf_counter() - started,
        "slowest, seconds": slowest.seconds,
        "largest memory of a decoding process, MiB": peak_kib / 1024,
        "What decoding ended in": [{"outcome": kind, "files": n} for kind, n in kinds.most_common()],
    }
    return figures, sum(one.fault is not None for one in outcomes)


def _attack_parser(name: str, seconds: int, seed: int) -> Figures:
    """One row of the table: executions, and the lines of code that they reached, as libFuzzer counts them."""
    _say(f"{name} parser for {seconds} s")
    saved = SAVED / name
    saved.mkdir(parents=True, exist_ok=True)
    before = set(saved.iterdir())
    with tempfile.TemporaryDirectory() as folder:
        for number, sample in enumerate(PARSERS[name].damaged(seed, 200)):
            (Path(folder) / str(number)).write_bytes(sample)
        words = [sys.executable, "-m", "tests.attack.guided", name, folder, f"-artifact_prefix={saved}/"]
        words += [f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={_MAX_INPUT_BYTES}"]
        words += [f"-timeout={_SLOW_INPUT_S}", "-rss_limit_mb=2048", "-print_final_stats=1"]
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    text = done.stdout + done.stderr
    n_executions = _number(r"number_of_executed_units: *(\d+)", text)
    n_branches = _number(r"cov: (\d+)", text)
    n_saved = len(set(saved.iterdir()) - before)
    if not (n_executions or n_branches or n_saved):
        raise SystemExit(f"the {name} parser could not start; is the extra fuzz installed?\n{text[-1_000:]}")
    faults = n_saved or int(done.returncode != 0)
    if faults:
        _say(text[-4_000:])
    return {
        "parser": name,
        "executions": n_executions,
        "branches reached": n_branches,
        "largest memory, MiB": _number(r"peak_rss_mb: *(\d+)", text),
        "faults": faults,
    }


def _number(pattern: str, text: str) -> int:
    """The last number that the pattern finds."""
    return int((re.findall(pattern, text) or ["0"])[-1])


def _save(what: str, name: str, content: bytes) -> None:
    (SAVED / what).mkdir(parents=True, exist_ok=True)
    (SAVED / what / name).write_bytes(content)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--media", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=60, help="for each parser")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/attack"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
