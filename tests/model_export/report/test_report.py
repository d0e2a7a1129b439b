"""Reports: the right numbers at the right place, and nothing filled in."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from model_export.data.gzsl_data import GzslData
from model_export.errors import RunError
from model_export.head.evaluation import evaluate
from model_export.head.head_config import PRESETS, HeadConfig, ablation
from model_export.head.run_folder import Run, RunConfig
from model_export.report.comparison import COMPARISON, ablation_table, comparison_table, gain, table_one
from model_export.report.measurements import MeasuredRun, measure
from model_export.report.report_files import write_report
from model_export.report.tables import FROZEN, NOT_MEASURED, Figure, by_data, data_title, method_name, methods
from tests.model_export.head.small_world import small_world


@pytest.fixture(scope="module")
def measured(small_run: Run, small_data: GzslData) -> MeasuredRun:
    """The small run with its measurements."""
    return measure(small_run, small_data)


def variant(run: MeasuredRun, hm_shift: float = 0.0, **head: Any) -> MeasuredRun:
    """The same measurements under another configuration, every HM moved."""
    config = run.config.model_copy(update={"head": run.config.head.model_copy(update=head)})
    shifted = tuple(
        e.model_copy(
            update={
                "accuracy": e.accuracy.model_copy(
                    update={"harmonic_mean": e.accuracy.harmonic_mean + hm_shift}
                )
            }
        )
        for e in run.evaluations
    )
    return replace(run, config=config, evaluations=shifted)


def row_config(name: str) -> dict[str, Any]:
    """Settings of one of the paper's four rows, but for how clips are ranked."""
    return ablation(PRESETS["ahse"])[name].model_dump(exclude={"seed", "raw_fusion"})


def test_stored_measurements_are_those_of_evaluate(
    measured: MeasuredRun, small_run: Run, small_data: GzslData
) -> None:
    """By each ranking, and for single tracks by the run's own."""
    assert measured.of("raw") == evaluate(small_run, small_data, ranking="raw")
    assert measured.of("fused", "audio") == evaluate(small_run, small_data, track="audio")
    assert MeasuredRun.load(small_run.path).evaluations == measured.evaluations


def test_the_sample_holds_unseen_clips_near_what_the_run_embeds(measured: MeasuredRun) -> None:
    """Three unseen classes of eight clips; rows standardised per sample have length 8."""
    sample = measured.sample
    assert sample.names == ("class 9", "class 10", "class 11")
    np.testing.assert_array_equal(np.bincount(sample.class_index), [8, 8, 8])
    np.testing.assert_allclose(np.linalg.norm(sample.z, axis=1), 8, rtol=1e-3)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (PRESETS["clip_clap"], "CLIP-CLAP"),
        (PRESETS["ahse_paper"], "AHSE"),
        (PRESETS["ahse"], "AHSE + text geometry + distillation + track dropout"),
        (HeadConfig(align_batch=True), "CLIP-CLAP + batch alignment only"),
        (HeadConfig(modality="audio"), "CLIP-CLAP + audio only"),
        (HeadConfig(adapter_scale=0.2), "CLIP-CLAP + residual adapters"),
        (HeadConfig(quality_weights=True), "CLIP-CLAP + quality weights"),
        *((config, row) for row, config in ablation(PRESETS["ahse"]).items()),
    ],
)
def test_method_names_of_configurations(config: HeadConfig, name: str) -> None:
    """The paper's name, then whatever the paper does not have."""
    assert method_name(config) == name


def test_a_figure_over_seeds_is_mean_and_sample_deviation() -> None:
    """Against numpy; one value has no deviation."""
    figure = Figure((1.0, 2.0, 6.0))
    assert figure.mean == 3.0
    assert figure.std == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert (Figure((5.0,)).std, Figure((5.0,)).shown()) == (None, "5.00")


def test_runs_that_differ_in_their_seed_only_are_one_method(measured: MeasuredRun) -> None:
    """Two learning rates are two methods with different names."""
    runs = [variant(measured, seed=s, lr=lr) for s in (1, 0) for lr in (1e-3, 1e-4)]
    found = methods(runs)
    assert [method.seeds for method in found] == [(0, 1), (0, 1)]
    assert len({method.name for method in found}) == 2


@pytest.mark.parametrize("setting", sorted(HeadConfig.model_fields.keys() - {"seed"}))
def test_runs_that_differ_in_any_setting_have_different_names(measured: MeasuredRun, setting: str) -> None:
    """And each its own figures in Table I."""
    config = PRESETS["ahse"].model_copy(update={"method": "clip_clap"})
    known: Any = getattr(config, setting)
    choices = get_args(HeadConfig.model_fields[setting].annotation)
    if isinstance(known, bool):
        other: Any = not known
    elif isinstance(known, str):
        other = next(one for one in choices if one != known)
    else:
        other = (known or 0) + 1
    settings = config.model_dump(exclude={"seed"})
    runs = [variant(measured, **settings), variant(measured, 9.0, **settings | {setting: other})]
    found = methods(runs)
    assert len({method.name for method in found}) == 2
    figures = {cells[0]: cells[4] for cells in table_one(found).rows}
    assert len({figures[method.name] for method in found}) == 2


def test_the_papers_row_is_the_one_standardised_per_sample(measured: MeasuredRun) -> None:
    """So the ablation's rows are found; the other one stands beside them with its settings."""
    usual = variant(measured, **row_config("AHSE"))
    other = variant(measured, **row_config("AHSE") | {"standardisation": "per_dimension"})
    names = [method.name for method in methods([other, usual])]
    assert names[0] == "AHSE"
    assert names[1].startswith("AHSE (per_dimension, ")
    assert [method.name for method in methods([other])] == ["AHSE"]


def test_the_product_row_is_the_one_standardised_as_its_preset(measured: MeasuredRun) -> None:
    """With stored statistics; without them it stands beside with its settings."""
    preset = PRESETS["ahse"].model_dump(exclude={"seed"})
    product = variant(measured, **preset)
    other = variant(measured, **preset | {"standardisation": "per_sample"})
    names = [method.name for method in methods([other, product])]
    assert names[0] == method_name(PRESETS["ahse"])
    assert names[1].startswith(f"{names[0]} (per_sample, ")
    assert product.config.head.standardisation == "stored_then_sample"


def test_gains_are_paired_by_seed(measured: MeasuredRun) -> None:
    """Seeds that only one of the two has do not count."""
    base = [variant(measured, shift, **row_config("CLIP-CLAP"), seed=s) for s, shift in ((0, 0.0), (1, 5.0))]
    full = [variant(measured, shift, **row_config("AHSE"), seed=s) for s, shift in ((1, 9.0), (2, 50.0))]
    baseline, ahse = methods([*base, *full])
    found = gain(ahse, baseline, "HM")
    assert found is not None
    assert list(found.values) == pytest.approx([4.0])


def test_tables_say_what_was_not_measured(measured: MeasuredRun) -> None:
    """Rows without a run, and the data sets of the paper."""
    (method,) = methods([variant(measured, **row_config("AHSE"))])
    rows = {cells[0]: cells for cells in ablation_table([method]).rows}
    assert list(rows) == ["CLIP-CLAP", "ES only", "HA only", "AHSE"]
    assert set(rows["ES only"][2:9]) == {NOT_MEASURED}
    assert rows["AHSE"][7] == NOT_MEASURED  # no baseline to compare with
    table = comparison_table([method])
    ours = [cells for cells in table.rows if cells[-1] == "this project"]
    assert len(ours) >= 5
    assert all(set(cells[1:4]) == {NOT_MEASURED} for cells in ours)  # SIMULATED runs do not count


def test_real_runs_stand_beside_the_published_numbers(measured: MeasuredRun) -> None:
    """Under the data set of their name."""
    update = {"name": "UCF-GZSL", "simulated": False, "encoders": "as published with UCF-GZSL"}
    data = measured.config.data.model_copy(update=update)
    real = replace(measured, config=RunConfig(head=measured.config.head, data=data))
    real = variant(real, **row_config("AHSE"))
    rows = {
        cells[0]: cells for cells in comparison_table(methods([real])).rows if cells[-1] == "this project"
    }
    a = real.of("embedding").accuracy
    assert rows["AHSE"][2] == f"{a.seen:.2f} / {a.unseen:.2f} / {a.harmonic_mean:.2f} / {a.zsl:.2f}"
    assert rows["AHSE"][1] == rows["AHSE"][3] == NOT_MEASURED
    assert rows[FROZEN][2] != NOT_MEASURED
    own = methods([on_other_data(real, encoders="23ddf979")])
    assert all(
        set(cells[1:4]) == {NOT_MEASURED}
        for cells in comparison_table(own).rows
        if cells[-1] == "this project"
    )
    assert "not comparable with these" in table_one(own).note


def test_names_with_slashes_and_dollars_are_drawn_as_they_are(measured: MeasuredRun, tmp_path: Path) -> None:
    """No folder stands in a picture's name, and no formula is read, right or wrong."""
    names = ("$5 and $10", r"$\frac$", "a_b/c")
    odd = on_other_data(
        replace(measured, sample=replace(measured.sample, names=names)), name="mine/$a_ $b\\c"
    )
    write_report([odd], tmp_path / "report")
    pictures = sorted(path.name for path in (tmp_path / "report").glob("*.png"))
    assert pictures[0] == f"mine__a___b_c_{measured.config.data.pool[:6]}_beta.png"
    assert len(pictures) == 4


def test_published_harmonic_means_follow_from_seen_and_unseen() -> None:
    """But for the three that the note names; so no number was mistyped."""
    odd = []
    for result in COMPARISON:
        for data_set, (s, u, hm, _) in result.figures.items():
            if abs(2 * s * u / (s + u) - hm) > 0.011:
                odd.append((result.method, data_set))
    assert set(odd) == {("CJME", "VGGSound-GZSL"), ("CJME", "UCF-GZSL"), ("AVCA", "VGGSound-GZSL")}


def test_the_report_page_is_self_contained_and_says_simulated(measured: MeasuredRun, tmp_path: Path) -> None:
    """No address but data; every table of made-up clips says so; pictures lie beside it."""
    runs = [variant(measured, **row_config(row), seed=s) for row in ("CLIP-CLAP", "AHSE") for s in (0, 1)]
    write_report(runs, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert f"<h1>AHSE: SIMULATED small world [{measured.config.data.pool[:6]}]</h1>" in page
    assert len(re.findall(r"data:image/png;base64,iVBOR", page)) == 4
    assert {p.suffix for p in (tmp_path / "report").iterdir()} == {".html", ".md", ".json", ".png"}
    document = json.loads((tmp_path / "report" / "report.json").read_text())
    assert document[0]["gains"]["AHSE"]["embedding HM"] == [0.0, 0.0]


def on_other_data(run: MeasuredRun, **data: Any) -> MeasuredRun:
    """The same measurements, said to be of other data."""
    identity = run.config.data.model_copy(update=data)
    return replace(run, config=run.config.model_copy(update={"data": identity}))


def test_runs_on_other_data_or_with_another_text_order_are_never_averaged(
    measured: MeasuredRun, tmp_path: Path
) -> None:
    """Each has tables of its own, and rows of its own beside the published numbers."""
    real = [
        on_other_data(
            variant(measured, **row_config("AHSE"), seed=seed),
            name="UCF-GZSL",
            simulated=False,
            encoders="as published with UCF-GZSL",
        )
        for seed in (0, 1)
    ]
    mixed_up = [on_other_data(run, text_order="legacy", pool="other") for run in real]
    found = by_data([*mixed_up, *real])
    assert [[method.seeds for method in group] for group in found] == [[(0, 1)], [(0, 1)]]
    assert [data_title(group) for group in found] == [
        f"UCF-GZSL [{measured.config.data.pool[:6]}]",
        "UCF-GZSL [other, legacy text order]",
    ]
    rows = [cells[0] for cells in comparison_table([m for group in found for m in group]).rows]
    assert {"AHSE", "AHSE (legacy text order)", FROZEN, f"{FROZEN} (legacy text order)"} <= set(rows)
    newer = on_other_data(real[0], pool="newer")
    with pytest.raises(RunError, match="different features of UCF-GZSL; report them apart"):
        write_report([real[1], newer], tmp_path / "report")


def test_draws_from_one_law_are_averaged_and_other_laws_are_not(small_data: GzslData) -> None:
    """Other seeds of the clips; not other texts, numbers of clips, or an unknown law."""
    drawn, again = (replace(small_world(seed), law="noise 0.2") for seed in (0, 1))
    again = replace(again, text_visual=drawn.text_visual, text_audio=drawn.text_audio)
    assert drawn.fingerprint() != again.fingerprint()
    assert drawn.pool() == again.pool()
    for other in (
        replace(again, law="noise 1"),
        replace(again, text_order="legacy"),
        replace(again, text_audio=2 * again.text_audio),
        replace(small_world(1, n_clips=9), law="noise 0.2"),
    ):
        assert other.pool() != drawn.pool()
    assert small_data.pool() == small_data.fingerprint()


def test_a_report_refuses_the_same_seed_twice(measured: MeasuredRun, tmp_path: Path) -> None:
    """It would pass for another seed."""
    with pytest.raises(RunError, match="two runs of the same seed"):
        write_report([measured, measured], tmp_path / "report")


def test_a_damaged_evaluation_is_reported(measured: MeasuredRun, tmp_path: Path) -> None:
    """With the folder."""
    for name in ("config.json", "evaluation.json", "test_sample.safetensors"):
        (tmp_path / name).write_bytes((measured.path / name).read_bytes())
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(RunError, match="damaged evaluation"):
        MeasuredRun.load(tmp_path)
