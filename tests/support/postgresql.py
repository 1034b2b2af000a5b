"""PostgreSQL for tests of a team's database: where it is, how it is installed on Debian, and a server on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

FOLDERS = ("/usr/lib/postgresql", "/usr/local/pgsql")
HOW_TO_INSTALL = "there is no PostgreSQL on this machine. Install it (Debian: apt-get install postgresql)."
INSTALL = (
    ("apt-get", "-qq", "update"),
    ("apt-get", "-qq", "install", "-y", "--no-install-recommends", "postgresql"),
)


def find_postgresql() -> Path | None:
    """The folder of initdb and postgres. Debian keeps them off the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    places = [place for folder in FOLDERS for place in Path(folder).glob("**/bin/initdb")]
    return max(places).parent if places else None


def main() -> int:
    """Install PostgreSQL where it is missing, which takes Debian and root. The exit status is 0 if it is there then."""
    if find_postgresql() is None and shutil.which("apt-get") and os.geteuid() == 0:
        print("Installing PostgreSQL for the tests of the review: apt-get install postgresql ...", flush=True)
        for command in INSTALL:
            subprocess.run(command, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    if find_postgresql() is None:
        print(f"The tests of a team's database cannot run: {HOW_TO_INSTALL}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def running_postgresql(programs: Path, folder: Path) -> Iterator[str]:
    """A server on loopback with its data in a folder of its own. The URL of its database.

    PostgreSQL refuses to run as root, so root hands it to the user of Debian's package.
    """
    command: list[str] = []
    if os.geteuid() == 0:
        command = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    data = folder / "data"
    _run([*command, str(programs / "initdb"), "-D", str(data), "-U", "tester", "-A", "trust", "--no-sync"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-c", "fsync=off"]
    server = subprocess.Popen(
        [*command, str(programs / "postgres"), "-D", str(data), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        _wait(server, port)
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
    finally:
        _run([*command, str(programs / "pg_ctl"), "-D", str(data), "stop", "-m", "fast"])
        server.wait(30)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(300):
        assert server.poll() is None, "PostgreSQL ended at once"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError("PostgreSQL does not answer")


if __name__ == "__main__":
    sys.exit(main())
