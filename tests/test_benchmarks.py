"""The benchmarks run, and their files say what they must; no time is judged."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import checks, report

ROOT = Path(__file__).parents[1]
FIELDS = {"case", "who", "dtype", "unit", "value", "devices", "runs", "first", "error", "detail"}


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(out)]
    done = subprocess.run(
        [*command, "--only", "E", "--peers", "scikit-learn"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_results_say_on_what_and_against_whom(quick):
    whole = json.loads((quick / "results.json").read_text())
    result = whole["workloads"]["E"]
    assert result["quick"]
    assert result["machine"]["processor"]
    assert result["machine"]["cores"] >= 1
    assert {"python", "jax", "numpy", "scikit-learn", "gmmx"} <= set(result["versions"])
    assert result["when"]
    for entry in result["entries"]:
        assert set(entry) >= FIELDS
        assert entry["error"] is None
        assert len(entry["runs"]) >= 1
        assert entry["value"] > 0
    assert {e["who"] for e in result["entries"]} >= {"scikit-learn", "vijax"}


def test_vijax_is_held_to_what_the_peer_reached(quick):
    entries = json.loads((quick / "results.json").read_text())["workloads"]["E"]["entries"]
    reached = {
        e["who"]: e["detail"]["likelihood"]
        for e in entries
        if "given" in e["case"] and "likelihood" in e["detail"]
    }
    assert reached["vijax"] >= reached["scikit-learn"] - 1e-6 * abs(reached["scikit-learn"])


def test_report_has_the_ratio_of_the_entries(quick):
    whole = json.loads((quick / "results.json").read_text())
    found = {e["who"]: e for e in whole["workloads"]["E"]["entries"] if "given" in e["case"]}
    expected = found["scikit-learn"]["value"] / found["vijax"]["value"]
    named = {check["what"]: check["value"] for check in whole["checks"]}
    assert named["E, ten given starts, float32: times faster"] == pytest.approx(expected)
    text = (quick / "results.md").read_text()
    assert "tiny sizes, no figures to quote" in text
    assert f"| {report.number(expected)} |" in text


def test_targets_without_figures_are_not_called_met():
    found = checks.all_of({})
    assert found
    assert all(check.met is None for check in found)


def test_written_results_agree_with_each_other():
    whole = json.loads((ROOT / "benchmarks/results.json").read_text())
    assert not any(result["quick"] for result in whole["workloads"].values())
    assert whole["checks"] == [check.plain() for check in checks.all_of(whole["workloads"])]
    assert (ROOT / "benchmarks/results.md").read_text() == report.markdown(whole)


def test_speed_claims_of_the_readme_are_those_of_the_results():
    whole = json.loads((ROOT / "benchmarks/results.json").read_text())
    claims = re.findall(r"\d+ to \d+ times faster", (ROOT / "README.md").read_text())
    assert claims == [report.headline(whole["workloads"])]
