"""Run a command where no packet can leave, and list where it tried to go.

In a network namespace of its own the default route leads back into the loopback interface, and a raw socket on it sees
every packet: of Python, of native code, of grandchildren, name lookups included. Where the system lets nobody make a
namespace, a hook in every Python process is what remains; it sees no native code, and says so.

Usage: airgap.py REPORT COMMAND…  (a program of its own: a namespace is entered once and for good)
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import ipaddress
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

NEW_USER, NEW_NET = 0x10000000, 0x40000000
SIOCSIFFLAGS, SIOCADDRT, IFF_UP, RTF_UP = 0x8914, 0x890B, 0x1, 0x1
ETH_P_ALL = 3
DNS = 53

HOOK = """
import json, os, sys

def _watch(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
        where = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        where = arguments[0]
    else:
        return
    if isinstance(where, bytes):
        where = where.decode(errors="replace")
    if where and where not in ("localhost", "::1", "0.0.0.0", "::", "") and not where.startswith("127."):
        caller = sys._getframe(1)
        names = []
        while caller is not None and len(names) < 8:
            names.append(caller.f_globals.get("__name__", "?"))
            caller = caller.f_back
        with open(os.environ["AIRGAP_SEEN"], "a") as file:
            file.write(json.dumps([where, " < ".join(dict.fromkeys(names))]) + "\\n")

sys.addaudithook(_watch)
"""


@dataclass(frozen=True)
class Watched:
    """How a command ended, and every address outside this machine that it tried.

    Attributes:
        whole: True where packets were watched, False where only Python was.
    """

    returncode: int
    stdout: str
    stderr: str
    strangers: list[str]
    whole: bool


def watch(command: list[str], *, env: dict[str, str], cwd: Path, timeout: float) -> Watched:
    """Run `command` behind the gap."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = folder / "report.json"
        (folder / "sitecustomize.py").write_text(HOOK)
        environment = {
            **env,
            "AIRGAP_SEEN": str(folder / "seen"),
            "PYTHONPATH": os.pathsep.join([name, *filter(None, [env.get("PYTHONPATH")])]),
        }
        done = subprocess.run(
            [sys.executable, __file__, str(report), *command],
            env=environment, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        found = json.loads(report.read_text())
        strangers = set(found["packets"])
        with contextlib.suppress(FileNotFoundError):
            for line in (folder / "seen").read_text().splitlines():
                where, caller = json.loads(line)
                strangers.add(f"{where} by {caller}")
        return Watched(done.returncode, done.stdout, done.stderr, sorted(strangers), found["whole"])


class Route(ctypes.Structure):
    """The kernel's `struct rtentry`."""

    _fields_ = (
        ("pad1", ctypes.c_ulong), ("destination", ctypes.c_char * 16), ("gateway", ctypes.c_char * 16),
        ("mask", ctypes.c_char * 16), ("flags", ctypes.c_ushort), ("pad2", ctypes.c_short), ("pad3", ctypes.c_ulong),
        ("pad4", ctypes.c_void_p), ("metric", ctypes.c_short), ("device", ctypes.c_void_p), ("mtu", ctypes.c_ulong),
        ("window", ctypes.c_ulong), ("irtt", ctypes.c_ushort),
    )  # fmt: skip


def possible() -> bool:
    """Whether this system lets this user make a namespace of their own."""
    here = str(Path(__file__).parent)
    program = f"import sys; sys.path.insert(0, {here!r}); import airgap; sys.exit(not airgap.isolate())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def isolate() -> bool:
    """Enter a namespace whose default route is the loopback interface; False where the system forbids it."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(NEW_NET) != 0:
        if libc.unshare(NEW_USER | NEW_NET) != 0:
            return False
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        except OSError:
            return False
    with socket.socket() as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
        anywhere = struct.pack("H14x", socket.AF_INET)
        device = ctypes.create_string_buffer(b"lo")
        route = Route(destination=anywhere, gateway=anywhere, mask=anywhere, flags=RTF_UP)
        route.device = ctypes.addressof(device)
        fcntl.ioctl(control, SIOCADDRT, bytes(route))
    return True


def destination(frame: bytes) -> str | None:
    """Where an Ethernet frame on the loopback interface goes, None where that is this machine."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == 0x0800:
        header = (frame[14] & 15) * 4
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv4Address(frame[30:34])
        protocol, rest = frame[23], frame[14 + header :]
    elif kind == 0x86DD:
        address = ipaddress.IPv6Address(frame[38:54])
        protocol, rest = frame[20], frame[54:]
    else:
        return None
    port = int.from_bytes(rest[2:4], "big") if protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP) else 0
    # a name lookup is an attempt to leave, wherever this machine's resolver listens
    if port != DNS and (address.is_loopback or address.is_multicast):
        return None
    return f"{address} port {port}"


def main() -> int:
    report, command = Path(sys.argv[1]), sys.argv[2:]
    whole = isolate()
    packets: set[str] = set()
    if whole:
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sniffer.bind(("lo", 0))
        sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)

        last, heard = os.urandom(16), threading.Event()

        def listen() -> None:
            while True:
                frame = sniffer.recv(65536)
                if frame.endswith(last):
                    heard.set()
                if found := destination(frame):
                    packets.add(found)

        threading.Thread(target=listen, daemon=True).start()
    code = subprocess.run(command, check=False).returncode
    if whole:
        # packets are heard in their order: once this one is, so is all that was sent before it
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as said:
            while not heard.wait(0.1):  # one that found no room is sent again
                said.sendto(last, ("127.0.0.1", 9))
    report.write_text(json.dumps({"whole": whole, "packets": sorted(packets)}))
    return code


if __name__ == "__main__":
    sys.exit(main())
