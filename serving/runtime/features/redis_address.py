"""Where a redis is and how to enter it: the parsed form of its URL."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from windlass.errors import UsageError

PORT = 6379
FORMS = "redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss://… or unix://[USER:PASSWORD@]/PATH[?db=DB]"
# the default first
_TRUTH = {"true": True, "false": False, "1": True, "0": False}
_CERT_REQS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


@dataclass(frozen=True)
class Tls:
    """What `rediss://` is told of TLS in its query, by the names that redis clients use.

    Attributes:
        ca_certs: file of authorities to trust; None takes the system's.
        certfile, keyfile: this client's own certificate.
    """

    cert_reqs: ssl.VerifyMode
    check_hostname: bool
    ca_certs: str | None
    certfile: str | None
    keyfile: str | None

    def context(self) -> ssl.SSLContext:
        """Make the client's side of it.

        Raises:
            OSError: a file is missing, or is no certificate (ssl.SSLError).
        """
        context = ssl.create_default_context(cafile=self.ca_certs)
        context.check_hostname = self.check_hostname and self.cert_reqs == ssl.CERT_REQUIRED
        context.verify_mode = self.cert_reqs
        if self.certfile is not None:
            context.load_cert_chain(self.certfile, self.keyfile)
        return context


@dataclass(frozen=True)
class Address:
    """One redis server.

    Attributes:
        name: the URL as messages may show it, without its password.
        path: a socket in the file system; then host and port mean nothing.
        tls: None where the connection is plain.
    """

    name: str
    host: str = "localhost"
    port: int = PORT
    path: str | None = None
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    @property
    def entry(self) -> list[tuple[str, ...]]:
        """The commands that a connection begins with."""
        commands: list[tuple[str, ...]] = []
        if self.password is not None:
            commands.append(("AUTH", *([self.user] if self.user else []), self.password))
        if self.database:
            commands.append(("SELECT", str(self.database)))
        return commands


def parse(url: str) -> Address:
    """Read a URL.

    Raises:
        UsageError: it is none of `FORMS`, or names several servers.
    """
    name = _without_password(url)
    parts = urlsplit(url)
    if "," in parts.netloc.rpartition("@")[2]:
        raise UsageError(
            f"online store {name!r} names several servers; Redis Cluster and Sentinel are not read here, "
            "give the address of one server that holds all keys (a primary, a replica, or a proxy before them)"
        )
    try:
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        in_path = "" if parts.scheme == "unix" else unquote(parts.path).strip("/")
        database = options.pop("db", "") or in_path or "0"
        address = Address(
            name,
            host=parts.hostname or "localhost",
            port=parts.port or PORT,
            path=unquote(parts.path) if parts.scheme == "unix" else None,
            database=int(database),
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=_tls(options).context() if parts.scheme == "rediss" else None,
        )
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(f"its scheme is {parts.scheme!r}")
        if address.path is not None and (parts.hostname or not Path(address.path).is_absolute()):
            raise ValueError("a socket has an absolute path and no host")
        if address.database < 0:
            raise ValueError(f"its database is {address.database}")
        if options:
            raise ValueError(f"its option {min(options)!r} is not known")
    except (ValueError, OSError) as error:
        raise UsageError(f"online store {name!r}: {error}; give {FORMS}") from error
    return address


def _tls(options: dict[str, str]) -> Tls:
    def take(name: str, known: Mapping[str, Any]) -> Any:
        value = options.pop(name, next(iter(known)))
        if value not in known:
            raise ValueError(f"its option {name} is {value!r}, known are {', '.join(known)}")
        return known[value]

    return Tls(
        cert_reqs=take("ssl_cert_reqs", _CERT_REQS),
        check_hostname=take("ssl_check_hostname", _TRUTH),
        ca_certs=options.pop("ssl_ca_certs", None),
        certfile=options.pop("ssl_certfile", None),
        keyfile=options.pop("ssl_keyfile", None),
    )


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
