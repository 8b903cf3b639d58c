"""Policies as files: YAML out and in, small, flat and without surprises."""

from __future__ import annotations

from typing import Any

import yaml
from django.core.exceptions import ValidationError

from controlplane.fleet.models import Pool
from controlplane.rebalancing.models import PolicyVersion
from controlplane.rebalancing.services.policies import PolicyError, create_policy_version

KIND = "llumdeck/policy"
FIELD = "yaml"
"""What callers name the whole file."""
MAX_FILE_BYTES = 64 * 2**10
MAX_DEPTH = 8
KNOWN = frozenset({"kind", "pool", "version", "comment", "config"})


def export_policy(version: PolicyVersion) -> str:
    """One version as YAML that :func:`import_policy` takes."""
    document = {
        "kind": KIND,
        "pool": version.pool.name,
        "version": version.version,
        "comment": version.comment,
        "config": version.config,
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def import_policy(*, pool: Pool, text: str, actor: str, comment: str = "") -> PolicyVersion:
    """A new, inactive version from a file. Raises :class:`PolicyError` that names the line or the field.

    The file's own ``pool`` and ``version`` say where it came from; they bind nothing.
    """
    document = _read(text)
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise PolicyError(f"kind: must be {KIND!r}; export a policy to see the form", "kind")
    if unknown := sorted(map(str, set(document) - KNOWN)):
        raise PolicyError(f"{unknown[0]}: unknown; known are {', '.join(sorted(KNOWN))}", unknown[0])
    said = document.get("comment") or ""
    if not isinstance(said, str):
        raise PolicyError("comment: must be text", "comment")
    origin = f"from {document.get('pool', 'a file')}/{document.get('version', '?')}"
    try:
        return create_policy_version(
            pool=pool,
            config=document.get("config", {}),
            actor=actor,
            comment=(comment or said or origin)[:500],
        )
    except ValidationError as error:
        raise PolicyError("; ".join(error.messages), "config") from error


def read_policy(text: str) -> dict[str, Any]:
    """The configuration in an exported file, or in plain YAML of its fields. Raises :class:`PolicyError`."""
    document = _read(text)
    exported = isinstance(document, dict) and document.get("kind") == KIND
    config = document.get("config") if exported else document
    if not isinstance(config, dict):
        raise PolicyError("must be a mapping of fields, as /policies/schema lists them", FIELD)
    return {str(name): value for name, value in config.items()}


def _read(text: str) -> Any:
    if len(text.encode()) > MAX_FILE_BYTES:
        raise PolicyError(
            f"the file is larger than {MAX_FILE_BYTES // 1024} KiB; a policy takes about one", FIELD
        )
    try:
        _check_events(text)
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except PolicyError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise PolicyError(f"{where}{error.problem or error}", FIELD) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise PolicyError(f"not YAML: {error}", FIELD) from error


def _check_events(text: str) -> None:
    """Neither references (a few lines can unfold into gigabytes) nor endless nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise PolicyError(f"{_where(event)}references (*name) are not taken", FIELD)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise PolicyError(f"{_where(event)}nested deeper than {MAX_DEPTH}", FIELD)


def _where(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}: " if event.start_mark else ""


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise PolicyError(f"line {key.start_mark.line + 1}: {key.value} is there twice", key.value)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)
