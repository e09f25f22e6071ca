import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileType

from cluster import artifacts
from cluster.artifacts import WORK, Artifact, Draft, draft, filesystem, join, open_artifact, resolve
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.recipes import RECIPES


@dataclass(frozen=True)
class ToyConfig:
    storage: str = unhashed()
    shots: int = 4
    workers: int = unhashed(2)


def toy(storage: str | Path, shots: int = 4, name: str = "toy") -> Draft:
    config = ToyConfig(str(storage), shots)
    return draft(str(storage), "factors", name, config=config, inputs={})


@pytest.fixture(params=["local", "store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A local root, and one on a file system that cannot rename as a local one does (in memory)."""
    return str(tmp_path) if request.param == "local" else f"mock:///{tmp_path.name}?x=1"


def test_a_draft_is_incomplete_until_published(storage: str) -> None:
    toy_draft = toy(storage)
    toy_draft.write_table("rows", pa.table({"id": ["a"]}))
    assert toy(storage).artifact is None
    with pytest.raises(ConfigError, match=r"no manifest\.json, so it is not complete"):
        open_artifact(toy_draft.uri, "factors")
    published = toy_draft.publish({"rows": 1}, extra={"hint": "toy"}, seeds={"draw": 3})
    assert toy(storage).artifact == published == open_artifact(toy_draft.uri, "factors")


def test_manifest_says_how_it_was_made(storage: str) -> None:
    base = toy(storage).publish({"rows": 0})
    config = ToyConfig(storage)
    toy_draft = draft(storage, "factors", "next", config=config, inputs={"base": base})
    manifest = open_artifact(toy_draft.publish({"rows": 2}).uri, "factors").manifest
    assert manifest.config == {"storage": storage, "shots": 4, "workers": 2}
    assert manifest.inputs == {"base": base.manifest.content_hash}
    assert manifest.rows == {"rows": 2}
    assert manifest.versions["ray"].startswith("2.")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*\+00:00", manifest.created)


def test_local_files_are_written_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_draft = toy(tmp_path)

    def broken(table: pa.Table, where: BinaryIO) -> None:
        where.write(b"PAR1 half")
        raise KeyboardInterrupt

    monkeypatch.setattr(artifacts.pq, "write_table", broken)
    with pytest.raises(KeyboardInterrupt):
        toy_draft.write_table("rows", pa.table({"id": ["a"]}))
    monkeypatch.undo()
    assert not list(Path(toy_draft.uri).glob("rows/*"))
    toy_draft.write_table("rows", pa.table({"id": ["a"]}))
    assert toy_draft.publish({"rows": 1}).read_table("rows").num_rows == 1
    assert not list(Path(toy_draft.uri).rglob("*.partial"))


def test_repeated_ids_are_dropped_and_rows_sorted(storage: str) -> None:
    toy_draft = toy(storage)
    toy_draft.write_table("rows", pa.table({"id": ["c", "a", "c"], "x": [3, 1, 3]}))
    fs, path = toy_draft.filesystem()
    more = pa.table({"id": ["b", "a"], "x": [2, 1]})
    pq.write_table(more, f"{path}/rows/9.parquet", filesystem=fs)
    artifact = toy_draft.publish({"rows": 3})
    assert artifact.read_table("rows").to_pydict() == {"id": ["a", "b", "c"], "x": [1, 2, 3]}
    assert artifact.read_table("rows", ["x"]).to_pydict() == {"x": [1, 2, 3]}


def test_a_table_without_ids_is_read_as_it_is(storage: str) -> None:
    toy_draft = toy(storage)
    toy_draft.write_table("cells", pa.table({"x": [2, 2, 1]}))
    assert toy_draft.publish({}).read_table("cells")["x"].to_pylist() == [2, 2, 1]


def test_a_missing_table_is_named(storage: str) -> None:
    artifact = toy(storage).publish({})
    with pytest.raises(FileNotFoundError, match=r"rows.* holds no Parquet file"):
        artifact.open_table("rows")


def test_json_comes_back(storage: str) -> None:
    toy_draft = toy(storage)
    toy_draft.write_json("deep/facts.json", {"name": "日本"})
    assert toy_draft.publish({}).read_json("deep/facts.json") == {"name": "日本"}


def test_content_hash_is_that_of_the_recipe_not_of_the_place(tmp_path: Path) -> None:
    one, other = toy(tmp_path / "here"), toy(tmp_path / "there")
    assert one.manifest.content_hash == other.manifest.content_hash
    others = [toy(tmp_path / "here", shots=5), toy(tmp_path / "here", name="other")]
    assert len({d.manifest.content_hash for d in [one, *others]}) == 3
    assert len({d.uri for d in [one, *others]}) == 3


def test_only_fields_that_count_are_hashed(tmp_path: Path) -> None:
    def hash_of(**settings: int) -> str:
        config = ToyConfig(str(tmp_path), **settings)
        return draft(str(tmp_path), "factors", "x", config=config, inputs={}).content_hash

    assert hash_of() == hash_of(workers=8) != hash_of(shots=5)


def test_a_raised_recipe_makes_it_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy(tmp_path).publish({})
    assert toy(tmp_path).artifact is not None
    monkeypatch.setitem(RECIPES, "factors", RECIPES["factors"] + 1)
    assert toy(tmp_path).artifact is None


def test_a_kind_without_a_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kind: 'toys' has no recipe; allowed: adapted, "):
        draft(str(tmp_path), "toys", "x", config={}, inputs={})


def test_the_manifest_names_the_code_that_made_it(tmp_path: Path) -> None:
    code = toy(tmp_path).publish({}).manifest.code
    assert code["version"] == version("imagine-beyond")
    checkout = Path(artifacts.__file__).parents[1] / ".git"
    if checkout.exists():
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", code["commit"])


def test_a_draft_stands_for_what_it_will_be(tmp_path: Path) -> None:
    config, promised = ToyConfig(str(tmp_path)), toy(tmp_path)
    early = draft(str(tmp_path), "captions", "x", config=config, inputs={"base": promised})
    late = {"base": promised.publish({})}
    assert draft(str(tmp_path), "captions", "x", config=config, inputs=late).uri == early.uri


def test_a_draft_reads_what_it_has_written(storage: str) -> None:
    toy_draft = toy(storage)
    toy_draft.write_table("rows", pa.table({"id": ["b", "a"]}))
    toy_draft.write_json("facts.json", [1])
    assert toy_draft.read_table("rows")["id"].to_pylist() == ["a", "b"]
    assert toy_draft.read_json("facts.json") == [1]


def test_what_was_needed_on_the_way_goes_with_publishing(storage: str) -> None:
    toy_draft = toy(storage)
    toy_draft.write_json(f"{WORK}/notes.json", {})
    fs, path = toy_draft.filesystem()
    toy_draft.publish({})
    assert fs.get_file_info(f"{path}/{WORK}").type == FileType.NotFound
    toy_draft.write_json(f"{WORK}/notes.json", {})  # as a kill leaves it right behind the manifest
    assert toy(storage).artifact is not None
    assert fs.get_file_info(f"{path}/{WORK}").type == FileType.NotFound


def test_content_hash_follows_the_inputs(tmp_path: Path) -> None:
    def child(base: Artifact) -> str:
        config = ToyConfig(str(tmp_path))
        toy_draft = draft(str(tmp_path), "captions", "x", config=config, inputs={"base": base})
        return toy_draft.manifest.content_hash

    one, two = (toy(tmp_path, shots=n).publish({}) for n in (1, 2))
    assert child(one) != child(two)


def test_a_hostile_name_stays_inside_the_storage(tmp_path: Path) -> None:
    toy_draft = toy(tmp_path / "root", name="../../x")
    assert Path(toy_draft.uri).parent == tmp_path / "root" / "factors"


def below_a_file(tmp_path: Path) -> str:
    (tmp_path / "file").write_text("")
    return str(tmp_path / "file" / "root")


@pytest.mark.parametrize("root", [below_a_file, lambda _: "/proc/root-of-runs"])
def test_storage_that_cannot_be_written(root: Callable[[Path], str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^storage: '/.* cannot be written .*; allowed: "):
        toy(root(tmp_path))


def test_storage_of_an_unknown_scheme() -> None:
    with pytest.raises(ConfigError, match=r"storage: 'zzz://bucket/.*allowed: .*s3://"):
        toy("zzz://bucket")


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset: '/.*nothing' does not exist; allowed: "):
        open_artifact(str(tmp_path / "nothing"), "dataset")


def test_opening_another_kind(tmp_path: Path) -> None:
    uri = toy(tmp_path).publish({}).uri
    with pytest.raises(ConfigError, match="is of kind 'factors'; allowed: kind 'dataset'"):
        open_artifact(uri, "dataset")


def test_another_schema_version_is_not_misread(tmp_path: Path) -> None:
    uri = toy(tmp_path).publish({}).uri
    path = Path(uri, "manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(ConfigError, match="schema version 99; allowed: 3"):
        open_artifact(uri, "factors")


def test_paths_are_made_absolute_and_uris_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve("runs") == str(tmp_path / "runs")
    assert resolve(f"file://{tmp_path}/runs") == str(tmp_path / "runs")
    assert resolve("s3://bucket/x?region=y") == "s3://bucket/x?region=y"
    assert join("s3://bucket/x?region=y", "a", "b") == "s3://bucket/x/a/b?region=y"
    assert resolve("id=7?a#b%20[*]") == str(tmp_path / "id=7?a#b%20[*]")
    assert resolve(f"file://{tmp_path}/a%3Fb%20c") == str(tmp_path / "a?b c")


@pytest.mark.parametrize("uri", ["file:///data/a?b", "file:///data/a#b", "s3://bucket/a#b"])
def test_a_uri_whose_end_would_be_cut_off_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=f"^storage: '{re.escape(uri)}' ends .*; allowed: %"):
        resolve(uri)


def test_a_folder_of_any_name_is_an_artifact_like_others(tmp_path: Path) -> None:
    for name in ("id=7", "id=7?a#b%20c", "[*] $x"):
        toy_draft = toy(tmp_path / name)
        toy_draft.write_table("rows", pa.table({"id": ["b", "a"]}))
        uri = toy_draft.publish({"rows": 2}).uri
        assert open_artifact(uri, "factors").read_table("rows")["id"].to_pylist() == ["a", "b"]


def test_a_remote_artifact_is_copied_to_the_node_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    toy_draft = toy(f"mock:///{tmp_path.name}")
    toy_draft.write_json("deep/facts.json", [1])
    artifact = toy_draft.publish({})
    local = artifact.local_dir()
    assert json.loads((local / "deep/facts.json").read_text()) == [1]
    fs, path = filesystem(artifact.uri)
    fs.delete_file(f"{path}/deep/facts.json")
    assert fs.get_file_info(f"{path}/deep/facts.json").type == FileType.NotFound
    assert artifact.local_dir() == local
    assert len(list((tmp_path / "cache/imagine-beyond").iterdir())) == 1


def test_a_local_artifact_is_used_in_place(tmp_path: Path) -> None:
    artifact = toy(tmp_path).publish({})
    assert artifact.local_dir() == Path(artifact.uri)
