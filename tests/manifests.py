"""Manifests of artifacts that a test has changed by hand."""

import json
from pathlib import Path


def allow_changes(artifact: Path) -> None:
    """Makes the manifest tell the sizes that the artifact's files have now, and no hashes."""
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {
        name: {"size": (artifact / name).stat().st_size, "sha256": None}
        for name in manifest["files"]
    }
    path.write_text(json.dumps(manifest))
