"""Reference: the OpenAPI document as one page that needs no script and nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from client.api.problems import KINDS

METHODS = ("get", "post", "put", "patch", "delete")


def reference(document: Mapping[str, Any]) -> str:
    """Every address with its parameters, bodies, answers and examples, and every kind of problem."""
    info = document["info"]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{escape(info['title'])} API</title>",
        '<link rel="stylesheet" href="/static/reference.css"><body class="reference"><main>',
        f"<h1>{escape(info['title'])} API</h1><p>{escape(info['description'])} The same for programs: ",
        '<a href="/openapi.json">openapi.json</a>.</p>',
        *_addresses(document),
        *_problems(),
        "<h2>Forms</h2>",
        *_forms(document),
        "</main></body></html>",
    ]
    return "\n".join(parts)


def _addresses(document: Mapping[str, Any]) -> Iterator[str]:
    theme = None
    for path, methods in document["paths"].items():
        for method in METHODS:
            if (operation := methods.get(method)) is None:
                continue
            if (tag := operation["tags"][0]) != theme:
                theme = tag
                yield f"<h2>{escape(tag.capitalize())}</h2>"
            yield from _operation(f"{method.upper()} {path}", operation, document)


def _operation(name: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    yield f'<section id="{escape(operation["operationId"])}"><h3><code>{escape(name)}</code></h3>'
    yield f"<p><strong>{escape(operation['summary'])}.</strong> {escape(operation.get('description', ''))}</p>"
    parameters = operation.get("parameters", [])
    if parameters:
        yield f"<ul>{''.join(_parameter(one, document) for one in parameters)}</ul>"
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body ({escape(media_type)}): {_named(content['schema'])}</p>{_example(content['schema'], document)}"
    for status, answer in operation["responses"].items():
        if status.isdigit():
            for media_type, content in answer.get("content", {"": {}}).items():
                schema = content.get("schema", {})
                yield f"<p>{status} {escape(media_type)} {_named(schema)}</p>{_example(schema, document)}"
    yield "</section>"


def _parameter(parameter: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    needed = "" if parameter.get("required") else ", optional"
    about = parameter.get("description", "")
    return f"<li><code>{escape(parameter['name'])}</code> ({parameter['in']}{needed}): {_rule(parameter['schema'])} {escape(about)}</li>"


def _problems() -> Iterator[str]:
    yield "<h2>Problems</h2><p>Every error is a problem document (RFC 9457) of one of these kinds; none quotes what was sent.</p><dl>"
    for name, kind in KINDS.items():
        yield f'<dt id="{name}"><code>{name}</code> ({kind.status})</dt><dd>{escape(kind.title)}: {escape(kind.next)}.</dd>'
    yield "</dl>"


def _forms(document: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f'<section id="form-{escape(name)}"><h3>{escape(name)}</h3><p>{escape(schema.get("description", ""))}</p><ul>'
        for field, rule in schema.get("properties", {}).items():
            needed = "" if field in schema.get("required", ()) else ", optional"
            about = rule.get("description", "")
            yield f"<li><code>{escape(field)}</code>{needed}: {_rule(rule)} {escape(about)}</li>"
        yield "</ul></section>"


def _rule(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return _named(schema)
    if "anyOf" in schema:
        return " or ".join(_rule(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_rule(schema['items'])}"
    bounds = {"minLength": "at least {} characters", "maxLength": "at most {} characters", "minimum": "from {}", "maximum": "to {}"}
    words = [str(schema.get("format") or schema.get("const") or schema.get("type", "anything"))]
    words += [text.format(schema[bound]) for bound, text in bounds.items() if bound in schema]
    return escape(", ".join(words))


def _named(schema: Mapping[str, Any]) -> str:
    if "$ref" not in schema:
        return escape(str(schema.get("format", schema.get("type", ""))))
    name = escape(schema["$ref"].rpartition("/")[2])
    return f'<a href="#form-{name}">{name}</a>'


def _example(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    form = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {})
    return "".join(f"<pre>{escape(json.dumps(one, ensure_ascii=False, indent=1))}</pre>" for one in form.get("examples", ()))
