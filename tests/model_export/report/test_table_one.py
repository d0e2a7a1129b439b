"""Table I by one call: tuned alike, resumable, with the published numbers beside ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_export.data.gzsl_data import GzslData
from model_export.errors import RunError
from model_export.head import tuning
from model_export.head.head_config import PRESETS
from model_export.report import table_one
from model_export.report.table_one import ROWS, Plan, Report, compare
from tests.model_export.conftest import SMALL
from tests.model_export.head.small_world import small_world

ROWS_HERE = ("clip_clap", "es_only", "ahse_paper", "cjme")
PLAN = Plan(ROWS_HERE, (0, 1), n_threads=1)


@pytest.fixture
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of a second."""
    monkeypatch.setattr(tuning, "STEPS", {"n_batches_per_epoch": 3, "batch_size": 12})
    monkeypatch.setattr(tuning, "SCHEDULES", ({"lr": 1e-3, "n_epochs": 2}, {"lr": 1e-4, "n_epochs": 1}))
    monkeypatch.setattr(tuning, "LAMBDAS", ({"align_weight": 1.0}, {"align_weight": 10.0}))


@pytest.mark.usefixtures("_small_steps")
def test_a_comparison_is_tuned_trained_measured_and_goes_on(
    small_data: GzslData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row with the same number of steps; what is there already is not trained again."""
    lines: list[str] = []
    compare(small_data, tmp_path, PLAN, Report(lines.append))
    assert len(lines) == len(ROWS_HERE) * 3
    assert lines[0].startswith("clip_clap: ")
    assert "HM " in lines[-1]
    for row in ROWS_HERE:
        tried = json.loads((tmp_path / "tuning" / f"{row}.json").read_text())["tries"]
        assert len(tried) == tuning.n_tries(ROWS[row]) == {"cjme": 2, "ahse_paper": 5}.get(row, 4)
        assert {one["choice"]["n_batches_per_epoch"] for one in tried} == {3}
    report = (tmp_path / "report.md").read_text()
    table = report[report.index("### Table I") :].split("\n\n")[1]
    cells = {line.split(" | ")[0].removeprefix("| "): line.split(" | ") for line in table.splitlines()}
    assert set(cells) >= {"CJME", "AVCA", "CLIP-CLAP", "AHSE", "HSP-MoE", "frozen encoders, no head"}
    assert (cells["CJME"][1], cells["AVCA"][1], cells["AVCA"][4]) == ("2", "0", "not measured")
    assert float(cells["AHSE"][7]) >= 0
    assert "Ablation on SIMULATED small world" in report

    monkeypatch.setattr(table_one, "train", lambda *_, **__: None)
    monkeypatch.setattr(tuning, "validate", None)
    (tmp_path / "report.md").unlink()
    compare(small_data, tmp_path, PLAN, Report(lines.append))
    assert (tmp_path / "report.md").read_text() == report


@pytest.mark.usefixtures("_small_steps")
def test_tuning_takes_what_is_best_on_validation(
    small_data: GzslData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Round by round: the schedule and scale first, then lambda; a stopped tuning goes on.

    Also one that was stopped before a setting was added.
    """
    asked: list[tuple[float, str, float]] = []

    def judged(config: object, *_: object) -> dict[str, float]:
        head = type(SMALL).model_validate(config)
        asked.append((head.lr, head.logit_scale, head.align_weight))
        score = 10 * (head.lr == 1e-4) + 5 * (head.logit_scale == "reference") + head.align_weight
        return {"harmonic_mean": score}

    monkeypatch.setattr(tuning, "validate", judged)
    path = tmp_path / "row.json"
    chosen = tuning.tune(PRESETS["ahse_paper"], small_data, path)
    assert (chosen.lr, chosen.logit_scale, chosen.align_weight) == (1e-4, "reference", 10.0)
    assert chosen.seed == tuning.TUNING_SEED
    assert len(asked) == len(set(asked)) == 5
    stopped = json.loads(path.read_text())
    of_then = {name: value for name, value in stopped["config"].items() if name != "quality_weights"}
    path.write_text(json.dumps(stopped | {"tries": stopped["tries"][:3], "config": of_then}))
    assert tuning.tune(PRESETS["ahse_paper"], small_data, path) == chosen
    assert len(asked) == 7
    for data, preset in ((small_world(seed=1), "ahse_paper"), (small_data, "ahse")):
        with pytest.raises(RunError, match="tuning of other data or other settings"):
            tuning.tune(PRESETS[preset], data, path)
    fewer = tuning.tune(PRESETS["ahse_paper"], small_data, tmp_path / "fewer.json", n_batches=2)
    assert fewer.n_batches_per_epoch == 2
