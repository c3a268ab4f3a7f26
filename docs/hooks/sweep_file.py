"""MkDocs hook: writes the field tables of docs/sweep-file.md from the schema of sweep files.

The page holds `<!-- fields -->` where the tables go. Types, limits, defaults and descriptions come
from `elastic_ray.spec.Spec`, so the page cannot disagree with the code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from elastic_ray.spec import STAGES, Spec

MARK = "<!-- fields -->"
FLAT = ("Recipe", "Runtime")
"""Parts whose fields a sweep file writes side by side under `training`."""
PATHS = {"Spec": "", "Model": "models[]", "Task": "task[]"}
"""Where a part is written, if not under the name of the field that holds it."""
SECOND = {"resources.engines": "resources.scorers"}
"""A second place with the same fields."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark by the tables (called by MkDocs for every page)."""
    return markdown.replace(MARK, tables()) if MARK in markdown else markdown


def tables() -> str:
    """The sections of all parts, the sweep file as a whole first."""
    schema = Spec.model_json_schema()
    parts = {"Spec": schema, **schema["$defs"]}
    places = _places(parts)
    return "\n".join(line for name in places for line in _section(name, places, parts))


def _places(parts: Mapping[str, Any]) -> dict[str, str]:
    """Each part's path in the sweep file, in the order in which the file's fields name them."""
    found: dict[str, str] = {}

    def visit(name: str, path: str) -> None:
        if name in found:
            return
        found[name] = path
        if name == "Training":
            for flat in FLAT:
                found[flat] = path
            visit("Lora", f"{path}.lora")
            return
        for field, described in parts[name].get("properties", {}).items():
            for inner in _parts_in(described):
                below = PATHS.get(inner) or (f"{path}.{field}" if path else field)
                visit(inner, below)

    visit("Spec", "")
    return found


def _section(name: str, places: Mapping[str, str], parts: Mapping[str, Any]) -> Iterator[str]:
    path = places[name]
    if name == "Runtime":
        yield "\n### `training`: how it is carried out\n"
    elif name == "Recipe":
        yield "\n### `training`: the recipe of a stage\n"
    elif path:
        also = f" and `{SECOND[path]}`" if path in SECOND else ""
        yield f"\n## `{path}`{also} {{ #{_anchor(path)} }}\n"
    else:
        yield "\n## The whole file\n"
    text = parts[name].get("description")
    if text and name != "Training":
        yield f"{_plain(text)}\n"
    if name == "Training":
        yield "The fields of the two tables below stand side by side and apply to every stage.\n"
        stages = ", ".join(f"`{stage}`" for stage in STAGES)
        yield (
            f"Also allowed, each with the fields of a recipe that differ in that stage: {stages}.\n"
        )
        return
    yield "| field | type | default | meaning | role |"
    yield "|---|---|---|---|---|"
    required = parts[name].get("required", ())
    for field, described in parts[name].get("properties", {}).items():
        shown = "**required**" if field in required else _default(described)
        meaning = _plain(described.get("description", "")).replace("\n", " ")
        inner = _parts_in(described)
        if inner:
            meaning = f"{meaning} See [below](#{_anchor(places[inner[0]])}).".strip()
        role = described.get("role", "")
        yield f"| `{field}` | {_type(described)} | {shown} | {meaning} | {role} |"


def _anchor(path: str) -> str:
    return re.sub(r"[^a-z]+", "-", path.replace("[]", "").lower()).strip("-")


def _parts_in(described: Any) -> list[str]:
    """The parts that a field's schema refers to."""
    if isinstance(described, dict):
        if "$ref" in described:
            return [described["$ref"].rpartition("/")[2]]
        return [name for value in described.values() for name in _parts_in(value)]
    if isinstance(described, list):
        return [name for value in described for name in _parts_in(value)]
    return []


def _default(described: Mapping[str, Any]) -> str:
    if "default" not in described:
        return ""
    value = described["default"]
    if value is None or value == [] or isinstance(value, dict):
        return ""
    text = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else str(value)
    return f"`{text}`"


def _type(schema: Mapping[str, Any]) -> str:
    """A field's type and limits in the words of YAML."""
    if "$ref" in schema:
        return "mapping"
    if "anyOf" in schema:
        kinds = [_type(each) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        count = len(schema.get("prefixItems", ()))
        return f"list of {f'{count} ' if count else ''}{_plural(_type(items))}"
    names = {"integer": "whole number", "number": "number", "string": "text"}
    names |= {"boolean": "true or false", "object": "mapping"}
    return f"{names.get(str(kind), 'value')}{_limits(schema)}"


def _plural(text: str) -> str:
    head, comma, rest = text.partition(",")
    plural = {"whole number": "whole numbers", "number": "numbers", "mapping": "mappings"}
    return f"{plural.get(head, head)}{comma}{rest}"


def _limits(schema: Mapping[str, Any]) -> str:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
    }
    found = [text.format(schema[key]) for key, text in words.items() if key in schema]
    return f", {', '.join(found)}" if found else ""


def _plain(text: str) -> str:
    """A description in one table cell."""
    return " ".join(text.split()).replace("|", r"\|")
