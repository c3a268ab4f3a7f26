"""Generated data files and folders: the rows of a plain reference, or a refusal in one line."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elastic_ray.tasks.layout import Splits, find_splits
from elastic_ray.tasks.rows import COMPRESSIONS, FileProblem, read_rows
from elastic_ray.tasks.task import TaskError

NAMES = ("text", "label")
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
ROW = st.builds(
    lambda more, text, label: {**more, "text": text, "label": label},
    st.dictionaries(TEXT.filter(lambda name: name not in NAMES), JSON, max_size=3),
    JSON,
    st.sampled_from([0, 1]),
)
PACK = {
    "": lambda raw: raw,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda raw: pa.compress(raw, codec="zstd", asbytes=True),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")
FUZZ = settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def read(path: Path, data: bytes) -> list[dict[str, Any]]:
    path.write_bytes(data)
    return list(read_rows(path, NAMES))


def same(found: Any, expected: Any) -> bool:
    return repr(found) == repr(expected)  # NaN is not itself


@FUZZ
@given(
    rows=st.lists(ROW, min_size=1, max_size=5),
    ascii_only=st.booleans(),
    encoding=st.sampled_from(ENCODINGS),
    pack=st.sampled_from(["", *COMPRESSIONS]),
    end=st.sampled_from(["\n", "\r\n"]),
    kind=st.sampled_from(["jsonl", "json"]),
)
def test_json_is_read_as_python_reads_it(
    rows: list[dict[str, Any]],
    ascii_only: bool,
    encoding: str,
    pack: str,
    end: str,
    kind: str,
    tmp_path: Path,
) -> None:
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    text = end.join(lines) + end if kind == "jsonl" else f"[{f',{end}'.join(lines)}]"
    path = tmp_path / f"x.{kind}{'.' if pack else ''}{pack}"
    found = read(path, PACK[pack](text.encode(encoding)))
    assert same(found, [{name: row[name] for name in NAMES} for row in rows])


@FUZZ
@given(
    texts=st.lists(TEXT.filter(lambda text: "\0" not in text), min_size=1, max_size=5),
    extra=TEXT.filter(lambda text: "\0" not in text),
    encoding=st.sampled_from(ENCODINGS),
    mark=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_csv_is_read_as_it_was_written(
    texts: list[str], extra: str, encoding: str, mark: str, end: str, quoting: Any, tmp_path: Path
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=mark, lineterminator=end, quoting=quoting)
    writer.writerow(["label", "other", "text"])
    writer.writerows([i % 2, extra, text] for i, text in enumerate(texts))
    found = read(tmp_path / "x.csv", file.getvalue().encode(encoding))
    assert found == [{"text": text, "label": str(i % 2)} for i, text in enumerate(texts)]


@FUZZ
@given(
    data=st.binary(max_size=80),
    name=st.sampled_from(
        ["x.csv", "x.tsv", "x.jsonl", "x.json", "x.parquet", *(f"x.csv.{c}" for c in COMPRESSIONS)]
    ),
)
def test_any_bytes_are_read_or_refused_in_one_line(data: bytes, name: str, tmp_path: Path) -> None:
    try:
        read(tmp_path / name, data)
    except FileProblem as e:
        assert "\n" not in str(e) and str(e)


@FUZZ
@given(
    rows=st.lists(ROW, min_size=30, max_size=40),
    pack=st.sampled_from(COMPRESSIONS),
    cut=st.floats(0.05, 0.95),
)
def test_a_compressed_file_that_ends_early_is_refused(
    rows: list[dict[str, Any]], pack: str, cut: float, tmp_path: Path
) -> None:
    packed = PACK[pack]("".join(json.dumps(row) + "\n" for row in rows).encode())
    with pytest.raises(FileProblem):
        read(tmp_path / f"x.jsonl.{pack}", packed[: int(len(packed) * cut)])


FOLDERS = ("", "data/", "a/", "b/", "train/", "default/train/", "data/a/b/c/d/", ".hidden/")
FILES = (
    "train.jsonl",
    "train.csv",
    "train.json",
    "train-0.jsonl",
    "train-00000-of-00002.jsonl",
    "train-00001-of-00002.jsonl",
    "train-00000-of-00001-a09b74b3ef9c3b56.jsonl",
    "0000.jsonl",
    "0001.csv",
    "test.jsonl",
    "README.md",
)
CARDS = (
    "no card",
    "---\n: [\n---\n",
    "---\nconfigs: 5\n---\n",
    "---\nconfigs:\n- {config_name: x, data_files: a/*.jsonl}\n---\n",
    "---\nconfigs:\n- {config_name: x, data_files: ../*.jsonl}\n---\n",
    "---\nconfigs:\n- data_files: [{split: train, path: [b/0000.jsonl]}, 7]\n---\n",
)


@FUZZ
@given(
    places=st.sets(st.tuples(st.sampled_from(FOLDERS), st.sampled_from(FILES)), max_size=4),
    card=st.sampled_from(CARDS),
    config=st.sampled_from([None, None, "a", "x"]),
)
def test_any_folder_is_read_or_refused_in_one_line(
    places: set[tuple[str, str]], card: str, config: str | None
) -> None:
    splits = Splits("some", ("train", "test"), optional=("test",))
    with tempfile.TemporaryDirectory() as folder:
        for below, name in places:
            path = Path(folder, below, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(card if name == "README.md" else "")
        try:
            found = find_splits(splits, folder, config)
        except TaskError as e:
            assert str(e).startswith("task some: ") and "\n" not in str(e)
            return
        assert found["train"], "a split that is required"
        written = {Path(folder, below, name) for below, name in places}
        assert {path for paths in found.values() for path in paths} <= written
        for paths in found.values():
            assert len(set(paths)) == len(paths)
