"""README, docs/ and CONTRIBUTING.md: links resolve, commands parse, names of the code exist."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
import yaml

from elastic_ray.results.store import Results

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "elastic_ray"
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
MODULES = {
    "sweep": "elastic_ray.sweep.__main__",
    "query": "elastic_ray.query",
    "report": "elastic_ray.report.__main__",
    "theory": "elastic_ray.theory.__main__",
}


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(text: str) -> str:
    """The text without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


@lru_cache
def anchors(path: Path) -> frozenset[str]:
    """The anchors of a page's headings, generated ones included."""
    text = prose(read(path))
    if "<!-- fields -->" in text:
        text += tables_of_fields()
    given = re.findall(r"\{ #([\w-]+) \}", text)
    headings = re.findall(r"^#+ (.+?)(?: \{ #[\w-]+ \})?$", text, re.MULTILINE)
    return frozenset([*given, *(slug(heading) for heading in headings)])


def slug(heading: str) -> str:
    """The anchor that MkDocs and GitHub give a heading."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def tables_of_fields() -> str:
    sys.path.insert(0, str(ROOT / "docs" / "hooks"))
    try:
        text: str = importlib.import_module("sweep_file").tables()
    finally:
        sys.path.pop(0)
    return text


def commands(text: str) -> Iterator[tuple[str, str]]:
    """(command, the rest of its line) of every command of the package in a text."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for found in re.finditer(r"(?:python -m elastic_ray\.|elastic-ray )(\w+)([^\n`]*)", joined):
        yield found[1], re.split(r"\s#\s|\s{3,}#|\s{4,}", found[2])[0]


@lru_cache
def help_of(*arguments: str) -> str:
    """What `elastic-ray ARGUMENTS --help` prints."""
    out = io.StringIO()
    main = importlib.import_module("elastic_ray.cli").main
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as end:
        main([*arguments, "--help"])
    assert end.value.code == 0
    return out.getvalue()


# README --------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(read(README).splitlines()) <= 130


def test_the_map_names_every_package() -> None:
    table = read(README).partition("## The map")[2]
    packages = [f"{path.parent.name}/" for path in sorted(PACKAGE.glob("*/__init__.py"))]
    packages += [path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")]
    assert len(packages) > 15
    assert [package for package in packages if f"`{package}`" not in table] == []


def test_the_readme_and_the_results_page_show_the_same_table() -> None:
    rows = [line for line in read(README).splitlines() if line.startswith("| reviews-")]
    assert len(rows) == 6
    assert set(rows) <= set(read(ROOT / "docs" / "results.md").splitlines())


# Links and commands --------------------------------------------------------------------------


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_links_resolve(path: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(read(path))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        missing_anchor = anchor and found.suffix == ".md" and anchor not in anchors(found)
        if not found.exists() or missing_anchor:
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_commands_parse(path: Path) -> None:
    for command, rest in commands(read(path)):
        if command == "COMMAND":
            continue
        arguments = [command]
        inner = re.match(r"\s+(verdict|rates|tree|compress|decompress)\b", rest)
        if command == "theory" and inner:
            arguments.append(inner[1])
        text = help_of(*arguments)
        for flag in re.findall(r"(?<!\S)\[?(--?[a-z][\w-]*)", rest):
            assert re.search(rf"{flag}\b", text), f"{' '.join(arguments)} has no {flag}"


@pytest.mark.parametrize("name", MODULES)
def test_the_console_command_and_the_module_take_the_same_options(name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", f"elastic_ray.{name}", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr

    def flags(text: str) -> set[str]:
        return set(re.findall(r"--[a-z-]+", text))

    assert flags(run.stdout) == flags(help_of(name))


def test_every_command_is_explained() -> None:
    page = read(ROOT / "docs" / "commands.md")
    found = importlib.import_module("elastic_ray.cli").COMMANDS
    assert [name for name in found if f"`elastic-ray {name}" not in page] == []
    for name in MODULES:
        options = set(re.findall(r"--[a-z-]+", help_of(name))) - {"--help"}
        assert [option for option in options if option not in page] == []


# Names of the code ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_files_that_are_named_exist(path: Path) -> None:
    pattern = r"(?<![\w/])((?:elastic_ray|tests|benchmarks|sweeps|docs)/[\w./-]*\w/?)"
    found = {name for name in re.findall(pattern, read(path)) if not name.endswith("_N")}
    ignored = {name for name in found if name.startswith("docs/figures") or name == "results"}
    assert sorted(name for name in found - ignored if not (ROOT / name).exists()) == []


def test_the_table_of_changes_names_files_of_its_packages() -> None:
    table = read(ROOT / "CONTRIBUTING.md").partition("## Where to change what")[2]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    missing = []
    for _, packages, files in (row for row in rows if len(row) == 3 and ".py`" in row[2]):
        found = {
            path.name
            for package in re.findall(r"`(\w+)/`", packages)
            for path in (PACKAGE / package).rglob("*.*")
        }
        missing += [
            (packages, name) for name in re.findall(r"`(\w+\.\w+)`", files) if name not in found
        ]
    assert len(rows) > 20 and missing == []


def test_the_way_through_the_code_names_what_is_there() -> None:
    """Each hop of docs/concepts.md names a file and what it defines there."""
    text = read(ROOT / "docs" / "concepts.md").partition("## The way through the code")[2]
    hops = re.findall(r"^\| \d+ \| `([\w/.]+)` \| (.+?) \|", text, re.MULTILINE)
    assert len(hops) > 10
    missing = [
        f"{file}: {name}"
        for file, names in hops
        for name in re.findall(r"`([\w.]+)`", names)
        if not defines(PACKAGE / file, name)
    ]
    assert missing == []


def defines(path: Path, name: str) -> bool:
    """Whether a file defines `name`: a view, a function, a class, or `Class.member`."""
    if path.suffix == ".sql":
        return f"CREATE VIEW {name} " in read(path) or f"CREATE MACRO {name}(" in read(path)
    body: list[ast.stmt] = ast.parse(read(path)).body
    for part in name.split("."):
        found = [node for node in body if part in names_of(node)]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


def names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.AnnAssign):
        return {node.target.id} if isinstance(node.target, ast.Name) else set()
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return set()


# Pages ---------------------------------------------------------------------------------------


def test_the_rules_have_anchors() -> None:
    assert {f"rule-{n}" for n in range(1, 7)} <= anchors(ROOT / "docs" / "concepts.md")


def test_docstrings_refer_to_rules_that_exist() -> None:
    known = anchors(ROOT / "docs" / "concepts.md")
    for path in PACKAGE.rglob("*.py"):
        for anchor in re.findall(r"docs/concepts\.md#([\w-]+)", read(path)):
            assert anchor.lower() in known, path


def test_the_sweep_file_page_has_every_field() -> None:
    from elastic_ray.spec import Spec

    schema = Spec.model_json_schema()
    fields = {
        field
        for part in (schema, *schema["$defs"].values())
        if part.get("title") != "Training"
        for field in part.get("properties", {})
    }
    text = tables_of_fields()
    assert [field for field in sorted(fields) if f"| `{field}` |" not in text] == []


def test_the_sweep_file_of_the_page_loads(tmp_path: Path) -> None:
    from elastic_ray.spec import load_spec

    [example] = re.findall(r"```yaml\n(.*?)```", read(ROOT / "docs/sweep-file.md"), re.DOTALL)
    (tmp_path / "sweep.yaml").write_text(example, encoding="utf-8")
    assert load_spec(tmp_path / "sweep.yaml").sweep == "tiny"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_yaml_is_yaml(path: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", read(path), re.DOTALL):
        yaml.safe_load(block)


def test_the_slurm_script_is_bash() -> None:
    [script] = re.findall(r"```bash\n(.*?)```", read(ROOT / "docs/how-to/slurm.md"), re.DOTALL)
    run = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert run.returncode == 0, run.stderr


def test_the_sql_recipes_run_on_recorded_results() -> None:
    recipes = re.findall(r"```sql\n(.*?)```", read(ROOT / "docs/how-to/sql.md"), re.DOTALL)
    assert len(recipes) > 10
    results = Results(ROOT / "tests" / "data" / "earlier_results", read_only=True)
    with results.connect() as connection:
        rows = [results.query(sql, connection=connection).num_rows for sql in recipes]
    assert sum(count == 0 for count in rows) <= 2  # nothing failed, and each answer held its state


def test_the_sql_page_names_every_view_once() -> None:
    page = read(ROOT / "docs/how-to/sql.md").partition("## The views")[2].partition("## Curves")[0]
    for name in re.findall(r"`(\w+)`", page):
        text = read(PACKAGE / "results" / "views.sql")
        assert f"CREATE VIEW {name} " in text or name in ("base", "aligned"), name


def test_the_site_builds_and_its_pages_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for page in pages:
        text = read(page)
        loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=\"?(https?://[^\s\">]+)", text)
        loaded += re.findall(r"<link[^>]+rel=\"?(?:stylesheet|preconnect|icon)[^>]+", text)
        assert [each for each in loaded if "http" in each] == [], page
    api = re.sub(r"<[^>]+>", "", read(tmp_path / "api.html"))
    for name in importlib.import_module("elastic_ray").__all__:
        assert re.search(rf"{name}\s*(?:¶|&para;)?\s*{name}\s*\(", api), name


def test_the_citation_names_the_paper() -> None:
    citation = yaml.safe_load(read(ROOT / "CITATION.cff"))
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["title"]
    assert citation["authors"] == [{"name": "The elastic_ray developers"}]
    assert [each["url"] for each in citation["references"]] == ["https://arxiv.org/abs/2406.06144"]
    assert f'version = "{citation["version"]}"' in read(ROOT / "pyproject.toml")


# What is accepted, and what a number may depend on ---------------------------------------------


def test_every_row_of_the_identity_page_names_tests_that_exist() -> None:
    rows = [
        line
        for line in read(ROOT / "docs" / "identity.md").splitlines()
        if line.startswith("| ") and not line.startswith("| the number could")
    ]
    assert len(rows) > 40
    for row in rows:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert tests, f"no test: {row}"
        assert re.search(r"\| (excluded|refused|bounded|recorded)", row), row
        for file, name in tests:
            assert re.search(rf"^(async )?def {name}\(", read(ROOT / file), re.MULTILINE), row


def test_the_accepted_architectures_are_the_tested_ones() -> None:
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    pytest.importorskip("torch", reason="the training extra is not installed")
    tested = {kind for kind, _ in importlib.import_module("architectures").ARCHITECTURES.values()}
    section = read(ROOT / "docs" / "accepted.md").partition("## Models")[2].partition("\n## ")[0]
    table = section.partition("| architecture | `model_type` |")[2]
    assert set(re.findall(r"^\| [\w., ()-]+ \| `(\w+)` \|$", table, re.MULTILINE)) == tested
