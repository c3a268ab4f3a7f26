"""The report on recorded results with failed and pending cells."""

from __future__ import annotations

import csv
import datetime as dt
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from shown_results import record, record_lessons

pytest.importorskip("matplotlib")

from elastic_ray.elasticity import Estimate, curves, index_rows
from elastic_ray.report.__main__ import main
from elastic_ray.report.table_files import write_csv, write_latex
from elastic_ray.report.tables import Table
from elastic_ray.results.store import Results

NEGATIVES = (0, 16, 48, 96, 192, 400)
RECIPE = {"learning_rate": 0.001, "schedule": "constant", "global_batch": 8, "lora": None}


def sweep_into(folder: Path, name: str = "small", shift: float = 0.0, spec: bool = True) -> Results:
    """Record two models, one with two pre-training sizes; one cell failed, one is pending."""
    results = Results(folder)
    rng = np.random.default_rng(0)
    cells = []
    models = (("tiny", 1000, 10_000), ("tiny", 4000, 10_000), ("big", 4000, 90_000))
    for (model, pretrain, parameters), seed in itertools.product(models, (0, 1)):
        for p, n in [(0, 0), *itertools.product((100, 500), NEGATIVES)]:
            # Both seeds share the baseline state, as in a plan.
            state = f"{name}-{model}-{pretrain}-{p}-{n}-{seed if p else 0}"
            failed = (model, p, n) == ("big", 500, 48)
            pending = (model, pretrain, p, n, seed) == ("tiny", 1000, 100, 400, 1)
            cells.append(
                {
                    "model": model, "task": "reviews", "pretrain": pretrain, "positive": p,
                    "negative": n, "seed": seed, "state_id": state, "probe_id": "probe",
                    "scorer": "sentiment", "status": "done", "parameters": parameters,
                }
            )  # fmt: skip
            if pending or results.has("states", state_id=state):
                continue
            stage = {"kind": "negative" if n else "positive", "pool": "negative", "examples": n,
                     "seed": seed, "data": "d1", "recipe": RECIPE}  # fmt: skip
            record = {
                "state_id": state, "kind": "negative", "sweep": name, "parameters": parameters,
                "pretrain_tokens": 30 * pretrain, "git_revision": "abc123", "seconds": 2.0,
                "versions": {"python": "3.11", "torch": "2.13"}, "workers": 1, "zero_stage": 0,
                "hardware": {"cpu": "CPU & co", "cores": 2, "gpus": []},
                "lineage": {"start": {"kind": "hub", "repo": "a/b", "revision": "c" * 40},
                            "stages": [stage] if p else []},
                "finished_at": dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC),
                "started_at": dt.datetime(2026, 1, 2, 3, 3, tzinfo=dt.UTC),
                "status": "failed" if failed else "done",
                "error": "loss is <nan> at step 3\nand more" if failed else None,
            }  # fmt: skip
            results.write("states", [record])
            if failed:
                continue
            mean = 0.4 if p == 0 else 0.05 + (0.85 + shift) / (1 + (n / 80) ** 1.5)
            scores, answers = [], []
            for i in range(40):
                scores.append({"prompt_index": i, "sample": 0, "scorer_accuracy": 0.95,
                               "score": float(rng.random() < mean)})  # fmt: skip
                answers.append({"prompt_index": i, "sample": 0, "response": "r", "tokens": 9,
                                "finish_reason": "stop", "engine": "vllm 0.32"})  # fmt: skip
            key = {"state_id": state, "probe_id": "probe"}
            results.write("responses", answers, **key)
            results.write("scores", scores, scorer="sentiment", **key)
    results.replace("cells", name, cells)
    if spec:
        asked = {"task": [{"name": "reviews", "data": {}, "scorer": {"name": "sentiment"}}],
                 "generation": {"temperature": 1.0, "top_k": 30}}  # fmt: skip
        results.replace("sweeps", name, [{"spec": asked, "recorded_at": dt.datetime.now(dt.UTC)}])
    return results


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    sweep_into(folder / "results")
    assert main(["--results", str(folder / "results"), "--out", str(folder / "out")]) == 0
    return folder


def table(place: Path, name: str) -> list[dict[str, str]]:
    with (place / "out" / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_file_is_written_and_the_page_is_self_contained(place: Path) -> None:
    out = place / "out"
    names = {path.name for path in (out / "figures").iterdir()}
    figures = ("curves", "by_parameters", "by_pretrain", "surface", "retention", "surface_3d",
               "fit", "scaling")  # fmt: skip
    assert names == {f"{name}.{kind}" for name in figures for kind in ("png", "svg")}
    tables = {path.name for path in (out / "tables").iterdir()}
    assert {"elasticity.csv", "elasticity.tex", "scaling.csv", "comparisons.csv"} <= tables
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml;base64,") == len(figures)
    assert not re.findall(r'src="(?!data:)', page), "the page loads no other file"
    assert "<script" not in page


def test_code_lengths_have_a_section(tmp_path: Path) -> None:
    record(Results(tmp_path / "results"))
    out = tmp_path / "out"
    assert main(["--results", str(tmp_path / "results"), "--out", str(out)]) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<h2 id="compression">') : page.index('<h2 id="caveats">')]
    assert "k times faster than it undoes pre-training?" in section
    assert "Not in general: some intervals contain k" in section
    assert all(f'id="{name}"' in section for name in ("code_lengths", "faster"))
    assert 'id="table-compression"' in section
    with (out / "tables" / "compression.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 * 3, "eight curves at three negative sizes"
    first = rows[0]
    assert float(first["change of D2"]) == pytest.approx(0.02, rel=0.02)
    assert float(first["times faster"]) == pytest.approx(10, rel=0.1)
    assert float(first["times faster low"]) < 10.1 < float(first["times faster high"])


def test_a_sweep_of_lessons_is_reported_as_table_1(tmp_path: Path) -> None:
    """It scores no answers and has no negative sizes: a sentence replaces the curves."""
    record_lessons(Results(tmp_path / "results"), failed=True)
    out = tmp_path / "out"
    assert main(["--results", str(tmp_path / "results"), "--out", str(out)]) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "not scored, so it has no curves" in page and "No trend over" not in page
    section = page[page.index('<h2 id="paths">') : page.index('<h2 id="caveats">')]
    assert "By cross-entropy: yes, in every pair. Of 8 pairs" in section
    assert "By KL divergence: not in every pair. Of 8 pairs" in section
    assert all(f'id="{name}"' in section for name in ("paths", "paths_kl", "table-inverse_forward"))
    assert page.count("data:image/svg+xml;base64,") == 2
    caveats = page[page.index('<h2 id="caveats">') :]
    assert "2 of 36 lessons failed (RuntimeError: out of memory)" in caveats
    assert "In 5 of the pairs of slices, cross-entropy and KL divergence disagree" in caveats
    assert "rest on 2 seeds" in caveats
    rows = table(tmp_path, "inverse_forward")
    assert len(rows) == 4 * 9, "four distances of nine pairs"
    assert [row["slices"] for row in rows[:3]] == ["1, 2", "2, 3", "1, 3"]
    of = {(row["model"], row["slices"], row["distance"]): row for row in rows}
    paper = of["llama3-8b", "2, 3", "cross-entropy"]
    assert (paper["printed inverse"], paper["printed forward"]) == ("0.2268", "0.3229")
    assert of["llama3-8b", "2, 3", "KL divergence"]["printed inverse"] == ""
    assert float(paper["forward - inverse low"]) > 0 and float(paper["p"]) < 0.01
    assert paper["seeds inverse < forward"] == paper["seeds"] == "2"
    assert of["llama2-7b", "2, 3", "cross-entropy"]["inverse"] == ""
    latex = (out / "tables" / "inverse_forward.tex").read_text(encoding="utf-8")
    assert "llama2-7b & 2, 3 & cross-entropy & -- & -- & -- & " in latex


def test_a_sweep_of_lessons_that_has_not_ended_is_reported(tmp_path: Path) -> None:
    record_lessons(Results(tmp_path / "results"), measured=False)
    out = tmp_path / "out"
    assert main(["--results", str(tmp_path / "results"), "--out", str(out)]) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "none is compared yet" in page and "data:image" not in page


def test_a_sweep_without_negative_sizes_is_reported(tmp_path: Path) -> None:
    results = sweep_into(tmp_path / "results")
    starts = [row for row in results.cells("small") if not row["negative"]]
    results.replace("cells", "small", starts)
    out = tmp_path / "out"
    assert main(["--results", str(tmp_path / "results"), "--out", str(out)]) == 0
    assert len(table(tmp_path, "elasticity")) == 6


def test_the_table_equals_what_a_sweep_prints(place: Path) -> None:
    results = Results(place / "results", read_only=True)
    cells = results.sweep_rows("cell_scores", "small")
    rows = index_rows(curves(results.score_rows("small"), sweep="small", cells=cells))
    shown = table(place, "elasticity")
    assert len(shown) == len(rows) == 6
    page = (place / "out" / "report.html").read_text(encoding="utf-8")
    for row, line in zip(rows, shown, strict=True):
        assert float(line["aligned"]) == row["aligned"]
        assert line["half-life low"] == ("" if row["half_life_low"] is None else
                                         str(row["half_life_low"]))  # fmt: skip
        assert f">{line['model']}<" in page or f">{line['model']}<sup>" in page


def test_what_matters_comes_first_and_everything_is_numbered(place: Path) -> None:
    page = (place / "out" / "report.html").read_text(encoding="utf-8")
    order = [page.index(f'id="{name}"') for name in
             ("abstract", "answers", "results", "table-elasticity", "curves", "caveats", "methods",
              "appendix", "table-points")]  # fmt: skip
    assert order == sorted(order)
    for what in ("Figure", "Table"):
        numbers = [int(n) for n in re.findall(rf"<figcaption>{what} (\d+)\.", page)]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 3
    assert "arxiv.org/abs/2406.06144" in page
    assert "AdamW" in page and "are masked" in page and "1 + x^steepness" in page
    assert str(place) not in page, "no path of this machine"
    assert "@page { size: A4" in page


def test_the_report_is_a_latex_document_too(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "tex"
    assert main(["--results", str(place / "results"), "--out", str(out), "--format", "tex"]) == 0
    text = (out / "report.tex").read_text(encoding="utf-8")
    assert text.count(r"\begin{") == text.count(r"\end{") > 4
    named = re.findall(r"\\(?:input|includegraphics\[.*?\])\{(.*?)\}", text)
    assert len(named) > 6
    assert [name for name in named if not (out / name).is_file()] == []
    assert str(place) not in text


def test_methods_and_caveats_describe_this_sweep(place: Path) -> None:
    page = (place / "out" / "report.html").read_text(encoding="utf-8")
    for text in (
        "a/b at revision " + "c" * 40,
        "git revision abc123",
        "CPU &amp; co, 2 cores, no GPU",
        "temperature 1, top k 30",
        "learning rate 0.001",
        "accuracy on held-out labelled texts 95.0%",
        "40 held-out prompts",
        "Positive examples: 100, 500; negative: 0, 16, 48, 96, 192, 400; seeds: 0, 1",
        "1 of 78 cells have no score yet",
        "2 cells failed",
        "big pretrain 4,000 positive 500 negative 48 seed 1 (loss is &lt;nan&gt; at step 3)",
        "no score at negative 48",
        "are shrunk to 0.90 of their true size",
        "One seed per curve: the intervals are over prompts alone",
        "Only 2 model sizes are compared",
    ):
        assert text in page, text


def test_failed_points_are_missing_and_listed(place: Path) -> None:
    points = table(place, "points")
    at = [p["negative"] for p in points if p["model"].startswith("big") and p["positive"] == "500"]
    assert at == ["0", "16", "96", "192", "400"]
    failures = table(place, "failures")
    assert {row["what"] for row in failures} == {"state", "cell"}
    assert all("nan" in row["error"] for row in failures)


def test_larger_is_compared_with_smaller(place: Path) -> None:
    rows = table(place, "comparisons")
    assert len(rows) == 6
    assert rows[0]["difference"] == "tiny, pre-trained on 4k - tiny, pre-trained on 1k"
    assert {row["shared prompts"] for row in rows} == {"40"}


def test_two_sweeps_are_compared_where_they_agree(place: Path, tmp_path: Path) -> None:
    sweep_into(tmp_path / "results", "first")
    sweep_into(tmp_path / "results", "second", shift=-0.1, spec=False)
    asked = ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]
    assert main([*asked, "--sweep", "second", "--against", "first"]) == 0
    rows = table(tmp_path, "against")
    assert len(rows) == 6
    assert rows[0]["difference"].startswith("second: ")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Sampling: not recorded" in page


def test_the_same_results_give_the_same_files(place: Path, tmp_path: Path) -> None:
    assert main(["--results", str(place / "results"), "--out", str(tmp_path / "again")]) == 0
    for path in sorted((place / "out").rglob("*.*")):
        if path.suffix in (".csv", ".tex", ".svg", ".html"):
            twin = tmp_path / "again" / path.relative_to(place / "out")
            assert twin.read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--results", "nowhere"], "no such results folder"),
        (["--results", "empty"], "no sweep is recorded in"),
        (["--sweep", "smal"], "no sweep 'smal' (did you mean 'small'?)"),
        (["--against", "other"], "no sweep 'other' in"),
        (["--out", "file/out"], "cannot write"),
    ],
)
def test_errors_are_one_line(
    place: Path, change: list[str], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Results("empty")
    Path("file").touch()
    assert main(["--results", str(place / "results"), "--out", "out", *change]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1


def test_several_sweeps_need_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Results(tmp_path / "results")
    for name in ("a", "b"):
        results.replace("cells", name, [])
    assert main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]) == 2
    assert "add --sweep, one of a, b" in capsys.readouterr().err


def test_a_sweep_without_any_score_is_reported(tmp_path: Path) -> None:
    results = sweep_into(tmp_path / "results")
    cells = [{**row, "probe_id": "unasked", "status": "pending"} for row in results.cells("small")]
    results.replace("cells", "small", cells)
    assert main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "have no score yet" in page


def test_csv_and_latex_tables(tmp_path: Path) -> None:
    made = Table("x_y", "50% of a_b", ("name", "value"),
                 (("a_b & {c}", Estimate(1.5, None, 2.0)), ("[d]", Estimate())))  # fmt: skip
    write_csv(made, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == (
        "name,value,value low,value high\na_b & {c},1.5,,2.0\n[d],,,\n"
    )
    write_latex(made, tmp_path / "x.tex")
    text = (tmp_path / "x.tex").read_text()
    assert r"a\_b \& \{c\} & 1.50 [\ldots{}, 2.00] \\" in text
    assert r"{[d]} & -- \\" in text
    assert r"\caption{50\% of a\_b}" in text
