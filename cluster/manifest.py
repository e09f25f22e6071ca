"""What manifest.json of an artifact holds, and reading it: a broken one is refused in one line."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, get_args, get_origin, get_type_hints

from cluster.errors import ConfigError, one_line
from cluster.files import FileFacts

MANIFEST = "manifest.json"
SCHEMA_VERSION = 3
LARGEST_BYTES = 1 << 28
"""Of a manifest; it has some hundred bytes for each file of its artifact."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What manifest.json holds."""

    kind: str
    name: str
    content_hash: str
    """Hash of kind, schema and recipe version, name, settings that count, inputs' hashes."""
    recipe: int
    """Version of how this kind is made (`cluster.recipes`)."""
    config: dict[str, Any]
    """The job's resolved configuration; which fields are hashed is declared at the fields."""
    inputs: dict[str, str]
    """Content hash of each input, by role."""
    rows: dict[str, int]
    """Number of rows of each table."""
    versions: dict[str, str]
    """Versions of Python and of libraries where the job ran: its driver's."""
    workers: dict[str, str]
    """The same of its workers on a cluster (`cluster.worker_versions`); empty on a Ray of the
    driver's own machine."""
    code: dict[str, str]
    """`version` and, from a git checkout, `commit` of the code; not hashed."""
    seeds: dict[str, int]
    created: str
    """Time of completion, ISO 8601, UTC."""
    extra: dict[str, Any]
    """Facts that only this kind of artifact has."""
    files: dict[str, FileFacts] = field(default_factory=dict, repr=False)
    """All files but the manifest, by their path below the artifact's folder."""
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> bytes:
        """The bytes of manifest.json."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["files"] = {
            name: {"size": facts.size, "sha256": facts.sha256} for name, facts in self.files.items()
        }
        return json.dumps(fields, indent=1, ensure_ascii=False).encode()


def parse_manifest(data: bytes, uri: str) -> Manifest:
    """The manifest of the artifact at `uri`. Raises ConfigError that says what is wrong with it."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _broken(uri, f"is no JSON ({one_line(error)})") from error
    if not isinstance(fields, dict):
        raise _broken(uri, f"holds {type(fields).__name__}, not an object")
    version = fields.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"artifact: {uri!r} has schema version {_short(version)}; allowed: {SCHEMA_VERSION}; "
            "remove its folder, and it is made again"
        )
    hints = get_type_hints(Manifest)
    for name in (*hints, *fields):
        if name not in fields:
            raise _broken(uri, f"lacks {name!r}")
        if name not in hints:
            raise _broken(uri, f"has an unknown field {_short(name)}")
        if name != "files" and not _fits(fields[name], hints[name]):
            raise _broken(uri, f"has {name} {_short(fields[name])}, which is not {hints[name]}")
    return Manifest(**fields | {"files": _files(uri, fields["files"])})


def _files(uri: str, files: Any) -> dict[str, FileFacts]:
    if not isinstance(files, Mapping):
        raise _broken(uri, f"has files {_short(files)}, which is not an object")
    for name, facts in files.items():
        if not (
            isinstance(facts, dict)
            and set(facts) == {"size", "sha256"}
            and _fits(facts["size"], int)
            and _fits(facts["sha256"], str | None)
        ):
            raise _broken(uri, f"says of {_short(name)} {_short(facts)}, not size and sha256")
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise _broken(uri, f"has a file {_short(name)}, which leads out of it")
    return {name: FileFacts(**facts) for name, facts in files.items()}


def _fits(value: Any, hint: Any) -> bool:
    """Whether JSON's value is of the type; bool is no int."""
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(_fits(v, get_args(hint)[1]) for v in value.values())
    if kinds := get_args(hint):
        return any(_fits(value, kind) for kind in kinds)
    return hint is Any or type(value) is hint


def _short(value: Any) -> str:
    """As Python writes it, cut where it is long. Deep values end it, too."""
    try:
        text = repr(value)
    except RecursionError:
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"


def _broken(uri: str, what: str) -> ConfigError:
    return ConfigError(
        f"artifact: {MANIFEST} of {uri!r} {what}; allowed: as it was published; remove the folder, "
        "and it is made again"
    )
