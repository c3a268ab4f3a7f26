"""Hosts of a cluster on one machine, out of Linux namespaces, each with an SSH server.

    with Hosts(("192.0.2.10", "192.0.2.11"), shared, layers) as hosts:
        hosts.run("ssh", "root@192.0.2.10", "hostname")

A host has its own network, processes, host name, shared memory and file system. The file system
begins as this machine's (Python and the project are there) with an empty `/tmp`; what the host
writes is its own, in memory. The folder `shared` is at `/shared` on every host, as NFS would be.
One more such machine, the client, stands for the user's own. `run` runs commands there; its home
folder has the private key that the hosts accept. The addresses are on a bridge in the client's
network, which is isolated: no host reaches this machine's network or can be reached from it.

Everything is held by one process and ends with it: processes, interfaces and mounts; no name is
left anywhere. That process ends with the one that started it, however that ends. Needs root,
overlayfs and the commands of `TOOLS`; `lacking` says what is missing.
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
"""Commands, and Debian's packages of them."""
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # Debian's users have no sbin in theirs
MACHINES = "machines"
"""Below the client's root: the file systems of the hosts."""
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
"""The project, its environment and Python: seen at these paths on every machine."""


def lacking(folder: Path) -> str | None:
    """Why hosts cannot be made on this machine, or None; tries it, in an empty `folder`."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "hosts are made of Linux namespaces, by root"
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
    """Hosts at those addresses (of one /24 network, of which `.1` is the client's).

    `layers` is an empty folder outside of `shared`; nothing is ever seen in it from outside.
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
            raise RuntimeError("the hosts did not come up; what failed is in the error output")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text()
        self._client = children.strip()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._holder.kill()  # kills the client's first process too, and with it all others
        self._holder.communicate()

    def run(
        self, *command: str, at: Path = Path("/"), limit: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the client in the folder `at`; stderr is part of its output."""
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
        """What a shell command prints on a host, over SSH."""
        quiet = ("-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR")
        return self.run("ssh", *quiet, f"root@{address}", command).stdout

    def processes(self) -> list[str]:
        """The command lines of all that runs on the client and on the hosts."""
        return self.run("ps", "-e", "-o", "args=").stdout.splitlines()


# The code below runs in the holding process, the first process of the client.


def _hold(shared: Path, layers: Path, addresses: Sequence[str]) -> None:
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
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children of the dead end up with it
    sys.stdin.read()  # ends when the starting process closes it, or is gone


def _file_system(root: Path, shared: Path) -> None:
    """A copy on write of this machine's, with an empty /tmp and a new user's shell files."""
    _overlay(Path("/"), root, root.parent / "layer")
    for shown in ("/dev", "/sys"):
        _do("mount", "--rbind", shown, f"{root}{shown}")
    for own in ("/tmp", "/dev/shm", "/run"):
        _do("mount", "-t", "tmpfs", "tmpfs", f"{root}{own}")
    for number, needed in enumerate(NEEDED):
        if not any((root / needed.relative_to("/")).glob("*")):  # in /tmp, or a mount of its own
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
    for folder in (at, layer / "upper", layer / "work"):
        folder.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={layer}/upper,workdir={layer}/work"
    _do("mount", "-t", "overlay", "overlay", "-o", options, str(at))


def _host_files(root: Path, name: str, shared: Path, key: str) -> None:
    _file_system(root, shared)
    # As Debian's and Ubuntu's installers write it: a machine's own name is on loopback.
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
    (root / "root/.ssh/authorized_keys").write_text(key)
    (root / "run/sshd").mkdir()
    (root / "etc/ssh/own_config").write_text(SSHD)
    own_key = root / "etc/ssh/own_key"
    _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(own_key))


def _host(name: str, address: str, gateway: str) -> None:
    """A host's network, and its SSH server as its first process."""
    _do("ip", "netns", "add", name)
    _do("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    _do("ip", "link", "set", name, "master", "switch", "up")
    for what in (
        ("link", "set", "lo", "up"),
        ("link", "set", "eth0", "up"),
        ("addr", "add", f"{address}/24", "dev", "eth0"),
        # Ray finds a node's own address by the way out.
        ("route", "add", "default", "via", gateway),
    ):
        _do("ip", "-n", name, *what)
    serve = f"hostname {name} && exec {shutil.which('sshd')} -D -e -f /etc/ssh/own_config"
    subprocess.Popen(
        ["ip", "netns", "exec", name, *UNSHARE, "--mount-proc", f"--root=/{MACHINES}/{name}",
         "sh", "-c", serve]
    )  # fmt: skip


def _await_server(address: str, limit: float = 60) -> None:
    """Returns once the host takes connections: it refuses them until its server has started."""
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
