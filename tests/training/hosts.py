"""Two hosts on one machine: network namespaces joined by a cable that can be cut."""

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field


def ip(*words, check=True):
    """A command of iproute2."""
    command = ["ip", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=check)


def why_not():
    """Why there can be no namespaces here; nothing where there can."""
    if shutil.which("ip") is None:
        return "needs ip, of iproute2"
    name = f"earsight-try-{os.getpid()}"
    made = ip("netns", "add", name, check=False)
    if made.returncode:
        return f"needs the right to make network namespaces ({made.stderr.strip()})"
    ip("netns", "delete", name, check=False)
    return ""


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """Two of them; what is started in them ends with them."""

    names: tuple[str, str]
    cables: tuple[str, str]
    addresses: tuple[str, str] = ("10.213.7.1", "10.213.7.2")
    started: list[subprocess.Popen] = field(default_factory=list)

    def cable(self, state):
        """Plug the second host's cable in (``up``) or pull it (``down``)."""
        ip("-n", self.names[1], "link", "set", self.cables[1], state)

    def torchrun(self, number, *command, port=29613, restarts=0):
        """Start a process of two on one of the hosts."""
        told = {
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": self.cables[number],
            "TP_SOCKET_IFNAME": self.cables[number],
        }
        words = [
            *("ip", "netns", "exec", self.names[number]),
            *(sys.executable, "-m", "torch.distributed.run"),
            *("--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(number)),
            *("--master-addr", self.addresses[0], "--master-port", str(port)),
            *("--max-restarts", str(restarts)),
            *command,
        ]
        process = subprocess.Popen(
            words,
            env={**os.environ, **told},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process


_CLEANER = """
read line
for name in "$@"; do
    for number in $(ip netns pids "$name"); do kill -9 "$number"; done
    ip netns delete "$name"
done
"""
"""Waits for its input to be closed, and kills what still runs in the hosts, and only that."""


@contextlib.contextmanager
def two_hosts():
    """Two hosts that see one another and one file system."""
    mark = os.getpid() % 100_000
    hosts = Hosts(
        names=(f"earsight-{mark}-a", f"earsight-{mark}-b"), cables=(f"es{mark}a", f"es{mark}b")
    )
    # A process of its own: it cleans up after tests that are killed, too.
    cleaner = subprocess.Popen(
        ["sh", "-c", _CLEANER, "sh", *hosts.names],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for name in hosts.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        first, second = zip(hosts.cables, hosts.names, strict=True)
        ends = (first[0], "netns", first[1], "type", "veth", "peer", "name", second[0])
        ip("link", "add", *ends, "netns", second[1])
        for (cable, name), address in zip((first, second), hosts.addresses, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
        yield hosts
    finally:
        cleaner.communicate()
        for process in hosts.started:
            process.kill()
            process.communicate()
