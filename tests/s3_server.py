"""A real S3-compatible server (moto's) in a process of its own, on a free port of the loopback interface."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

START_SECONDS = 60.0


class S3Server:
    """Started at once; `stop` ends it.

    Args:
        log: file for what it says.

    Attributes:
        url: its address.
        environment: what makes boto and s3fs speak to it.
    """

    def __init__(self, log: Path):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with log.open("wb") as output:
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        self._wait(log)

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except urllib.error.HTTPError:
                return  # an answer
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"the S3 server did not start: {log.read_text()}")

    def hang(self) -> None:
        """Connections are still accepted, but nothing answers any more."""
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def forget_connections() -> None:
    """File systems are kept with the address they had."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@contextmanager
def serving(log: Path, bucket: str) -> Iterator[S3Server]:
    """A server with a bucket, which `s3://` addresses mean in this process and those that it starts."""
    server = S3Server(log)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        forget_connections()
        fsspec.filesystem("s3").mkdir(bucket)
        yield server
        forget_connections()
    server.stop()
