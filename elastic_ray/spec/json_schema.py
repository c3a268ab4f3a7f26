"""JSON Schema of sweep files as people write them, for editors and validators.

Describes the short forms that `shorthand.expand` accepts, not the written-out form that `Spec`
validates. What concerns several fields (exactly one of init, hub and path; ascending sizes) is
checked by `load_spec` only.
"""

from __future__ import annotations

from typing import Any

from .spec import Spec
from .training import STAGES

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of sweep files, with a description of every field."""
    schema = _clean(Spec.model_json_schema())
    definitions = schema["$defs"]
    fields = schema["properties"]
    name = definitions["Task"]["properties"]["name"]

    scorer = definitions["Task"]["properties"]["scorer"]
    by_name = {
        "type": "string",
        "pattern": name["pattern"],
        "title": "Scorer by name",
        "description": "Name of a scorer trained on the task, or none: answers are not scored.",
    }
    scorer["anyOf"] = [by_name, *scorer["anyOf"]]
    fields["scorer"] = {
        "anyOf": [by_name, {"$ref": "#/$defs/Scorer"}],
        "title": "Scorer",
        "description": "Scorer of every task that has none of its own: a name, a mapping, or none.",
    }

    by_name = {
        "type": "string",
        "pattern": name["pattern"],
        "title": "Task by name",
        "description": name["description"],
    }
    one_task = [by_name, {"$ref": "#/$defs/Task"}]
    tasks = {"type": "array", "items": {"anyOf": one_task}, "minItems": 1}
    fields["task"] = {
        "anyOf": [*one_task, tasks],
        "title": "Task",
        "description": fields["task"]["description"] + " One task or a list; each by name, or as a "
        "mapping with its settings.",
    }

    definitions["Training"] = _flat_training(definitions)
    del definitions["Runtime"]
    for part in (schema, *definitions.values()):
        for field, value in part["properties"].items():
            value.setdefault("title", field.replace("_", " ").title())
    schema["title"] = "Sweep file of elastic_ray"
    return {"$schema": _DIALECT, **schema}


def _flat_training(definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of `training:` as written: recipe and runtime fields side by side."""
    nested = definitions["Training"]["properties"]
    stages = {
        kind: {
            "$ref": "#/$defs/Recipe",
            "description": f"{nested[kind]['description']} Fields given here override those "
            "of `training`.",
        }
        for kind in STAGES
    }
    return {
        "type": "object",
        "title": "Training",
        "description": "The recipe of all stages, what differs by stage, and how training is "
        "executed.",
        "properties": {
            **definitions["Recipe"]["properties"],
            **definitions["Runtime"]["properties"],
            **stages,
        },
        "additionalProperties": False,
    }


def _clean(value: Any) -> Any:
    """Return the schema without field roles, docstrings on one line per paragraph."""
    if isinstance(value, list):
        return [_clean(element) for element in value]
    if not isinstance(value, dict):
        return value
    cleaned = {}
    for key, element in value.items():
        if key == "role" and isinstance(element, str):
            continue
        if key == "description" and isinstance(element, str):
            paragraphs = element.split("\n\n")
            cleaned[key] = "\n\n".join(" ".join(each.split()) for each in paragraphs)
        else:
            cleaned[key] = _clean(element)
    return cleaned
