"""Simulates the hosts of a cluster on one machine with Linux namespaces, each with an SSH server.

    with Hosts(("192.0.2.10", "192.0.2.11"), shared, layers) as hosts:
        hosts.run("ssh", "root@192.0.2.10", "hostname")

A host has its own network, processes, host name, shared memory and file system. Its file system
starts as a copy-on-write view of this machine's, so it has Python and the project, with an empty
`/tmp`. A host's writes stay in memory and are visible on that host only. The folder `shared` is
mounted at `/shared` on every host, like NFS. One more simulated machine, the client, represents the
user's own machine. `run` runs commands there; its home folder has the private key that the hosts
accept. The addresses are on a bridge in the client's network. That network is isolated: the hosts
cannot reach this machine's network, and cannot be reached from it.

One process holds all processes, interfaces and mounts. They end with it and leave nothing behind.
It ends when the process that started it ends, even by SIGKILL. This needs root, overlayfs and the
commands in `TOOLS`; `lacking` reports what is missing.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

TOOLS = {
    "unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2", "ssh": "openssh-client",
    "sshd": "openssh-server", "ssh-keygen": "openssh-client", "rsync": "rsync",
}  # fmt: skip
"""Command -> Debian package."""
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # Debian leaves sbin out of users' PATH
MACHINES = "machines"
"""Folder below the client's root with the file systems of the hosts."""
PROBE = """
mount -t tmpfs tmpfs "$0" && mkdir "$0/up" "$0/work" "$0/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/up,workdir=$0/work" "$0/root"
ip link add probe type bridge && ip link add one type veth peer name two
"""
UNSHARE = ("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child")
SSHD = """
HostKey /etc/ssh/own_key
AuthorizedKeysFile /root/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
PidFile none
LogLevel ERROR
"""
NEEDED = tuple(
    map(
        Path,
        (os.path.dirname(os.path.dirname(os.path.dirname(__file__))), sys.prefix, sys.base_prefix),
    )
)
"""The project, its environment and Python; every simulated machine has them at these paths."""


def lacking(folder: Path) -> str | None:
    """Return why this machine cannot simulate hosts, or None; the trial uses an empty `folder`."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "simulated hosts need Linux namespaces and root"
    if missing := {package for tool, package in TOOLS.items() if not shutil.which(tool, path=PATH)}:
        return f"not installed: {', '.join(sorted(missing))}"
    tried = subprocess.run(
        [*UNSHARE, "--net", "--mount-proc", "sh", "-ec", PROBE, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": PATH},
    )
    return f"namespaces: {tried.stderr.strip()}" if tried.returncode else None


class Hosts:
    """Hosts at `addresses`, in one /24 network whose address `.1` is the client's.

    `layers` is an empty folder outside of `shared`; it stays empty as seen from this machine.
    """

    def __init__(self, addresses: Sequence[str], shared: Path, layers: Path) -> None:
        self.addresses = tuple(addresses)
        self._holder = subprocess.Popen(
            [*UNSHARE, "--net", "--mount-proc", sys.executable, __file__,
             str(shared), str(layers), *self.addresses],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PATH": PATH},
        )  # fmt: skip

    def __enter__(self) -> Hosts:
        assert self._holder.stdout
        if self._holder.stdout.readline() != "ready\n":
            self.__exit__(None, None, None)
            raise RuntimeError("the hosts did not start; see the error output for the cause")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text()
        self._client = children.strip()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._holder.kill()  # also kills the client's first process, and with it all others
        self._holder.communicate()

    def run(
        self, *command: str, at: Path = Path("/"), limit: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the client in the folder `at`; its stdout includes stderr."""
        enter = (
            "nsenter",
            f"--target={self._client}",
            "--mount",
            "--net",
            "--pid",
            "--ipc",
            "--uts",
        )
        return subprocess.run(
            [*enter, "--root", f"--wdns={at}", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
            env={**os.environ, "PATH": PATH, "HOME": "/root"},
        )

    def on(self, address: str, command: str) -> str:
        """Run a shell command on a host over SSH, and return its output."""
        quiet = ("-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR")
        return self.run("ssh", *quiet, f"root@{address}", command).stdout

    def processes(self) -> list[str]:
        """Return the command lines of all processes on the client and the hosts."""
        return self.run("ps", "-e", "-o", "args=").stdout.splitlines()


# The code below runs in the holding process, the first process of the client.


def _hold(shared: Path, layers: Path, addresses: Sequence[str]) -> None:
    """Set up the client and the hosts, print "ready", and wait until stdin closes."""
    _do("ip", "link", "set", "lo", "up")
    _do("mount", "-t", "tmpfs", "tmpfs", str(layers))
    client = layers / "client" / "root"
    _file_system(client, shared)
    key = client / "root/.ssh/id_ed25519"
    _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    names = [f"host{number}" for number in range(len(addresses))]
    for name in names:
        _host_files(layers / name / "root", name, shared, Path(f"{key}.pub").read_text())
        inside = client / MACHINES / name
        inside.mkdir(parents=True)
        _do("mount", "--rbind", str(layers / name / "root"), str(inside))
    os.chroot(client)
    os.chdir("/")
    _do("mount", "-t", "proc", "proc", "/proc")
    _do("hostname", "client")
    network = addresses[0].rpartition(".")[0]
    _do("ip", "link", "add", "switch", "type", "bridge")
    _do("ip", "addr", "add", f"{network}.1/24", "dev", "switch")
    _do("ip", "link", "set", "switch", "up")
    for name, address in zip(names, addresses, strict=True):
        _host(name, address, f"{network}.1")
    for address in addresses:
        _await_server(address)
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reaps orphans, now children of this process
    sys.stdin.read()  # returns when the starting process closes it or ends


def _file_system(root: Path, shared: Path) -> None:
    """Mount a copy-on-write view of this machine's file system at `root`.

    It has an empty /tmp, and the home folder has a new user's shell files.
    """
    _overlay(Path("/"), root, root.parent / "layer")
    for shown in ("/dev", "/sys"):
        _do("mount", "--rbind", shown, f"{root}{shown}")
    for own in ("/tmp", "/dev/shm", "/run"):
        _do("mount", "-t", "tmpfs", "tmpfs", f"{root}{own}")
    for number, needed in enumerate(NEEDED):
        if not any((root / needed.relative_to("/")).glob("*")):  # it is in /tmp or on another mount
            _overlay(needed, root / needed.relative_to("/"), root.parent / f"needed{number}")
    (root / "shared").mkdir(exist_ok=True)
    _do("mount", "--bind", str(shared), f"{root}/shared")
    home = root / "root"
    for skeleton in (".bashrc", ".profile"):
        shutil.copyfile(f"/etc/skel/{skeleton}", home / skeleton)
    for folder in (".ray", ".ssh"):
        shutil.rmtree(home / folder, ignore_errors=True)
    (home / ".ssh").mkdir(mode=0o700)


def _overlay(lower: Path, at: Path, layer: Path) -> None:
    """Mount `lower` copy-on-write at `at`; `layer` receives the writes."""
    for folder in (at, layer / "upper", layer / "work"):
        folder.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={layer}/upper,workdir={layer}/work"
    _do("mount", "-t", "overlay", "overlay", "-o", options, str(at))


def _host_files(root: Path, name: str, shared: Path, key: str) -> None:
    """Create a host's file system, with the SSH server's configuration."""
    _file_system(root, shared)
    # The installers of Debian and Ubuntu map a machine's own name to loopback, too.
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
    (root / "root/.ssh/authorized_keys").write_text(key)
    (root / "run/sshd").mkdir()
    (root / "etc/ssh/own_config").write_text(SSHD)
    own_key = root / "etc/ssh/own_key"
    _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(own_key))


def _host(name: str, address: str, gateway: str) -> None:
    """Create a host's network, and start its SSH server as its first process."""
    _do("ip", "netns", "add", name)
    _do("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    _do("ip", "link", "set", name, "master", "switch", "up")
    for what in (
        ("link", "set", "lo", "up"),
        ("link", "set", "eth0", "up"),
        ("addr", "add", f"{address}/24", "dev", "eth0"),
        # Ray determines a node's address from its default route.
        ("route", "add", "default", "via", gateway),
    ):
        _do("ip", "-n", name, *what)
    serve = f"hostname {name} && exec {shutil.which('sshd')} -D -e -f /etc/ssh/own_config"
    subprocess.Popen(
        ["ip", "netns", "exec", name, *UNSHARE, "--mount-proc", f"--root=/{MACHINES}/{name}",
         "sh", "-c", serve]
    )  # fmt: skip


def _await_server(address: str, limit: float = 60) -> None:
    """Wait until the host's SSH server accepts connections; refused ones are retried."""
    end = time.monotonic() + limit
    while True:
        try:
            return socket.create_connection((address, 22), timeout=limit).close()
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _do(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    _hold(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
