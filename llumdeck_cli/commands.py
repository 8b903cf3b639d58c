"""``llumdeck``: status, drain, undrain, migrate, classes, policy diff and apply, watch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import yaml
from click.shell_completion import CompletionItem

from llumdeck_cli.api import Api, ApiError
from llumdeck_cli.output import field, share, show

INSTANCES = [
    ("instance", field("instance_id")),
    ("pool", field("pool")),
    ("state", field("state")),
    ("memory", share("used_blocks", "total_blocks")),
    ("freeness", field("live", "freeness")),
    ("running", field("live", "running")),
    ("waiting", field("live", "waiting")),
    ("in/out", lambda row: _arrows(row)),
    ("age s", field("live", "age_s")),
]
OPERATIONS = [
    ("operation", field("operation_id")),
    ("kind", field("kind")),
    ("of", field("object_id")),
    ("state", field("state")),
    ("done", lambda row: f"{row['done']}/{row['total'] or '?'}"),
    ("note", lambda row: row.get("problem") or row.get("note")),
]
FINAL = {"succeeded", "failed", "cancelled"}


class Failure(click.ClickException):
    """Ends the command with status 1 and one line."""


def _arrows(row: Any) -> str | None:
    live = row.get("live")
    return f"{live['migrations_in']}/{live['migrations_out']}" if live else None


def _api(context: click.Context) -> Api:
    given = context.find_root().params
    if not given.get("token"):
        raise Failure(
            "no token: set LLUMDECK_TOKEN or LLUMDECK_TOKEN_FILE (console → Settings → Machine tokens)"
        )
    found: Api = context.find_root().meta.setdefault("api", Api(given["url"], given["token"]))
    return found


def _run(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except ApiError as error:
        raise Failure(str(error)) from error


class InstanceName(click.ParamType):  # type: ignore[type-arg]
    """Completes by asking the fleet."""

    name = "instance"

    def shell_complete(
        self, context: click.Context, param: click.Parameter, typed: str
    ) -> list[CompletionItem]:
        try:
            rows = list(_api(context).rows("instances", fields="instance_id,state"))
        except (ApiError, click.ClickException):
            return []
        return [
            CompletionItem(row["instance_id"], help=row["state"])
            for row in rows
            if row["instance_id"].startswith(typed)
        ]


def _token_file(context: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and not context.params.get("token"):
        context.params["token"] = path.read_text().strip()
    return path


@click.group(context_settings={"auto_envvar_prefix": "LLUMDECK", "help_option_names": ["-h", "--help"]})
@click.option(
    "--url", default="http://127.0.0.1:8800", show_default=True, help="Of the console (LLUMDECK_URL)."
)
@click.option("--token", default="", is_eager=True, help="A machine token (LLUMDECK_TOKEN).")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_token_file,
    help="A file that holds it (LLUMDECK_TOKEN_FILE).",
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of tables.")
def main(url: str, token: str, token_file: Path | None, as_json: bool) -> None:
    """Operate a Llumdeck fleet from the shell.

    Completion: eval "$(_LLUMDECK_COMPLETE=bash_source llumdeck)" (or zsh_source, fish_source).
    """


def _json(context: click.Context) -> bool:
    return bool(context.find_root().params["as_json"])


@main.command()
@click.option("--pool", help="Of one pool.")
@click.pass_context
def status(context: click.Context, pool: str | None) -> None:
    """Instances with memory, load and age; exits 1 when one is not healthy."""
    api = _api(context)
    rows = _run(lambda: list(api.rows("instances", pool=pool)))
    show(rows, INSTANCES, as_json=_json(context), title="instances")
    if any(row["state"] in {"unhealthy", "quarantined"} for row in rows):
        context.exit(1)


def _act(context: click.Context, path: str, body: dict[str, Any], wait: bool) -> None:
    api = _api(context)
    answer = _run(lambda: api.post(path, body))
    operation = answer.get("operation") or {}
    if wait and operation:
        operation = _wait(api, operation["operation_id"])
    show(
        [operation or answer],
        OPERATIONS if operation else [("state", field("state"))],
        as_json=_json(context),
    )
    if operation.get("state") == "failed":
        context.exit(1)


def _wait(api: Api, operation_id: str, every_s: float = 1.0) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = _run(lambda: api.get(f"operations/{operation_id}"))
        if found["state"] in FINAL:
            return found
        time.sleep(every_s)


REASON = click.option("--reason", default="", help="Kept in the audit list.")
WAIT = click.option("--wait", is_flag=True, help="Until it is over.")


@main.command()
@click.argument("instance", type=InstanceName())
@click.option("--deadline", "deadline_s", type=click.IntRange(min=1), help="Seconds; then --on-deadline.")
@click.option("--on-deadline", type=click.Choice(["wait", "recompute"]), default="wait", show_default=True)
@REASON
@WAIT
@click.pass_context
def drain(
    context: click.Context, instance: str, deadline_s: int | None, on_deadline: str, reason: str, wait: bool
) -> None:
    """Let INSTANCE take no new work; everything running moves away."""
    body = {"deadline_s": deadline_s, "on_deadline": on_deadline, "change_reason": reason}
    _act(context, f"instances/{instance}/drain", body, wait)


@main.command()
@click.argument("instance", type=InstanceName())
@REASON
@click.pass_context
def undrain(context: click.Context, instance: str, reason: str) -> None:
    """Let INSTANCE take work again."""
    _act(context, f"instances/{instance}/undrain", {"change_reason": reason}, wait=False)


@main.command()
@click.argument("request")
@click.argument("source", type=InstanceName())
@click.argument("destination", type=InstanceName())
@click.option("--dry-run", is_flag=True, help="Say what it would meet; move nothing.")
@REASON
@click.pass_context
def migrate(
    context: click.Context, request: str, source: str, destination: str, dry_run: bool, reason: str
) -> None:
    """Move REQUEST from SOURCE to DESTINATION."""
    body = {"request_id": request, "source": source, "destination": destination, "dry_run": dry_run}
    answer = _run(lambda: _api(context).post("migrations", {**body, "change_reason": reason}))
    if dry_run:
        columns = [
            (name, field(name))
            for name in ("possible", "problem", "needed_tokens", "free_tokens_at_destination")
        ]
    else:
        columns = [
            (name, field(name)) for name in ("migration_id", "request_id", "source", "destination", "state")
        ]
    show([answer], columns, as_json=_json(context))
    if dry_run and not answer["possible"]:
        context.exit(1)


@main.command()
@click.pass_context
def classes(context: click.Context) -> None:
    """SLO classes, first served first."""
    names = ("name", "rank", "ttft_target_ms", "tpot_target_ms", "target_load_tokens", "service_tier")
    rows = _run(lambda: list(_api(context).rows("slo-classes")))
    show(rows, [(name, field(name)) for name in names], as_json=_json(context), title="classes")


@main.group()
def policy() -> None:
    """Compare and apply a pool's policy from a file."""


def _draft(api: Api, path: Path, pool: str | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The completed draft, and the active version (``None``: defaults)."""
    body: dict[str, Any] = {"yaml": path.read_text()}
    if pool:
        body["pool"] = pool
    check = _run(lambda: api.post("policies/validate", body))
    if not check["valid"]:
        raise Failure("; ".join(f"{each['field']}: {each['message']}" for each in check["problems"]))
    active = _run(lambda: list(api.rows("policies", active="true", pool=pool, most=1)))
    return check["config"], active[0] if active else None


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix.rstrip("."): data}
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= _flat(value, f"{prefix}{name}.")
    return found


def _changes(before: Any, after: Any) -> list[dict[str, Any]]:
    old, new = _flat(before), _flat(after)
    return [
        {"path": path, "before": old.get(path), "after": new.get(path)}
        for path in sorted(old | new)
        if old.get(path) != new.get(path)
    ]


CHANGES = [("field", field("path")), ("active", field("before")), ("file", field("after"))]
FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
POOL = click.option("--pool", help="The only one where none is named.")


@policy.command("diff")
@FILE
@POOL
@click.pass_context
def policy_diff(context: click.Context, file: Path, pool: str | None) -> None:
    """What FILE would change of the active policy; exits 1 when it would change anything."""
    draft, active = _draft(_api(context), file, pool)
    found = _changes((active or {}).get("config", {}), draft)
    show(found, CHANGES, as_json=_json(context), title="changes")
    if found:
        context.exit(1)


@policy.command("apply")
@FILE
@POOL
@REASON
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--for", "for_s", type=click.IntRange(60, 86_400), help="So many seconds, then the one before comes back."
)
@click.pass_context
def policy_apply(
    context: click.Context, file: Path, pool: str | None, reason: str, yes: bool, for_s: int | None
) -> None:
    """Make FILE the active policy, after showing what changes."""
    api = _api(context)
    draft, active = _draft(api, file, pool)
    found = _changes((active or {}).get("config", {}), draft)
    if not found:
        click.echo("nothing to change", err=True)
        return
    if not _json(context):
        show(found, CHANGES, as_json=False, title="changes")
    if not yes:
        click.confirm("activate?", abort=True, err=True)
    body: dict[str, Any] = {"config": draft, "change_reason": reason}
    if pool:
        body["pool"] = pool
    row = _run(lambda: api.post("policies", body))
    tag = _run(lambda: api.etag(f"policies/{row['id']}"))
    wish = {"change_reason": reason, "for_s": for_s}
    active_now = _run(lambda: api.post(f"policies/{row['id']}/activate", wish, etag=tag))
    columns = ("pool", "version", "active", "active_until")
    show([active_now], [(name, field(name)) for name in columns], as_json=_json(context))


@policy.command("show")
@POOL
@click.pass_context
def policy_show(context: click.Context, pool: str | None) -> None:
    """The active policy as YAML (or JSON), to be edited and applied."""
    rows = _run(lambda: list(_api(context).rows("policies", active="true", pool=pool, most=1)))
    if not rows:
        raise Failure("no policy was ever activated: the defaults are in force")
    config = rows[0]["config"]
    click.echo(
        json.dumps(config, indent=2) if _json(context) else yaml.safe_dump(config, sort_keys=False), nl=False
    )


@main.command()
@click.option("--every", "every_s", type=click.FloatRange(min=0.5), default=2.0, show_default=True)
@click.option("--times", type=click.IntRange(min=1), help="Look so often, then end.")
@click.pass_context
def watch(context: click.Context, every_s: float, times: int | None) -> None:
    """Instances and running operations, again and again until Ctrl-C."""
    api, looked = _api(context), 0
    while True:
        rows = _run(lambda: list(api.rows("instances")))
        running = _run(lambda: list(api.rows("operations", state="running", most=20)))
        if _json(context):
            click.echo(json.dumps({"instances": rows, "operations": running}))
        else:
            click.clear()
            show(rows, INSTANCES, as_json=False, title="instances")
            show(running, OPERATIONS, as_json=False, title="operations")
        looked += 1
        if times is not None and looked >= times:
            return
        time.sleep(every_s)
