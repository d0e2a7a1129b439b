"""Alerts and dashboard name what the service measures, and their expressions can be evaluated."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.integrations.readme import INTEGRATIONS, blocks
from tests.integrations.series import check_names, measured_series

ROOT = INTEGRATIONS.parent
RULES = INTEGRATIONS / "prometheus" / "ahse.rules.yml"
BOARD = json.loads((INTEGRATIONS / "grafana" / "ahse.json").read_text(encoding="utf-8"))
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
PROMTOOL = shutil.which("promtool")
GRAFANA_PYTHON = ROOT / ".venv-grafana" / "bin" / "python"

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool; Debian has it in prometheus")


@pytest.fixture(scope="module")
def measured() -> dict[str, set[str]]:
    """Label names by series."""
    return measured_series()


def test_alerts_name_what_is_measured(measured: dict[str, set[str]]) -> None:
    """A metric that was renamed would silence its alert."""
    expressions = re.findall(r"expr: (.*?)\n(?: +for:| +labels:)", RULES.read_text(), re.DOTALL)
    assert len(expressions) == 10
    for expression in expressions:
        check_names(expression, measured)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_dashboard_names_what_is_measured(expression: str, measured: dict[str, set[str]]) -> None:
    """A metric that was renamed would leave a panel empty."""
    check_names(expression, measured)


def test_legends_and_variables_exist(measured: dict[str, set[str]]) -> None:
    """Legends use labels that their expression keeps, and expressions use variables of the dashboard."""
    variables = {one["name"] for one in BOARD["templating"]["list"]}
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= variables
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert legend <= set(re.findall(r"\w+", target["expr"]))
    asked = [one["query"]["query"] for one in BOARD["templating"]["list"] if one["type"] == "query"]
    assert {series for text in asked for series in re.findall(r"label_values\((\w+)", text)} <= set(measured)


def test_panels_are_apart_and_use_the_chosen_data_source() -> None:
    """Ids are unique, nothing lies over something else or beside the 24 columns."""
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        chosen = {"type": "prometheus", "uid": "${datasource}"}
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen for target in panel["targets"])
    for one, other in combinations(panels, 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    assert BOARD["templating"]["list"][0]["type"] == "datasource"


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in ("xw", "yh")
    )


def _promtool(*words: object) -> None:
    done = subprocess.run(  # noqa: S603  (fixed arguments)
        [str(PROMTOOL), *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_fire_when_they_must_and_only_then(tmp_path: Path) -> None:
    """By Prometheus itself, on made-up series."""
    _promtool("check", "rules", RULES)
    text = (ROOT / "tests" / "integrations" / "ahse.rules.test.yml").read_text()
    (tmp_path / "test.yml").write_text(text.replace("RULES", str(RULES)))
    _promtool("test", "rules", tmp_path / "test.yml")


@needs_promtool
def test_the_readmes_configuration_is_one(tmp_path: Path) -> None:
    """Beside the rules and a key, as it says."""
    (tmp_path / "prometheus.yml").write_text(blocks("prometheus", "yaml")[0])
    shutil.copy(RULES, tmp_path)
    (tmp_path / "ahse.key").write_text("key")
    _promtool("check", "config", tmp_path / "prometheus.yml")


@needs_promtool
def test_expressions_of_the_dashboard_can_be_parsed(tmp_path: Path) -> None:
    """As rules, with values in place of variables."""
    values = {"$__rate_interval": "1m", "$job": "ahse", "$instance": ".*"}
    rules = []
    for number, expression in enumerate(EXPRESSIONS):
        for variable, value in values.items():
            expression = expression.replace(variable, value)
        rules.append({"record": f"panel:{number}", "expr": expression})
    # JSON is YAML.
    (tmp_path / "board.yml").write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    _promtool("check", "rules", tmp_path / "board.yml")


@pytest.mark.slow
@pytest.mark.skipif(
    not GRAFANA_PYTHON.exists(), reason="no grafana-foundation-sdk; install it: make test-integrations"
)
def test_grafanas_own_model_keeps_every_field() -> None:
    """A field that Grafana does not know would be lost when the dashboard is saved."""
    code = """
import json, sys
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
plugins.register_default_plugins()
print(json.dumps(Dashboard.from_json(json.load(sys.stdin)), cls=JSONEncoder))
"""
    done = subprocess.run(  # noqa: S603  (our own code)
        [GRAFANA_PYTHON, "-c", code], input=json.dumps(BOARD), capture_output=True, text=True, check=True
    )
    _check_kept(BOARD, json.loads(done.stdout))


def _check_kept(before: Any, after: Any) -> None:
    if isinstance(before, dict):
        for name, value in before.items():
            _check_kept(value, after[name])
    elif isinstance(before, list):
        for one, other in zip(before, after, strict=True):
            _check_kept(one, other)
    else:
        assert before == after
