"""The OpenAPI document, as FastAPI makes it but for what it says wrongly."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from agents.api.problems import MEDIA, ProblemDocument


def install(app: FastAPI) -> None:
    """`app.openapi()` says what is really answered."""
    made = app.openapi

    def corrected() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            for operation in _operations(document):
                _correct(operation)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            form = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= {"ProblemDocument": form} | form.pop("$defs", {})
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = corrected  # type: ignore[method-assign]


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from (one for one in path.values() if isinstance(one, dict))


def _correct(operation: dict[str, Any]) -> None:
    """Errors are problem documents and nothing else; every answer has an X-Request-ID."""
    for response in operation["responses"].values():
        content = response.get("content", {})
        if MEDIA in content:
            content.pop("application/json", None)
        response.setdefault("headers", {})["X-Request-ID"] = {
            "description": "the request's, or one made up",
            "schema": {"type": "string"},
        }
