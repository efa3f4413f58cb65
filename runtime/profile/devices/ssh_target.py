"""What a user writes after ``ssh:``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgedf.errors import ConfigError

__all__ = ["SshTarget"]

_TARGET = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?:\[(?P<bracketed>[^\[\]\s]+)\]|(?P<host>[^@:\[\]\s]+))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True)
class SshTarget:
    """Where to log in.

    Args:
        host: A name, an address, or an alias in the user's ``~/.ssh/config``.
        user: None for what that file says, else the one who asks.
        port: None likewise, else 22.
    """

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> SshTarget:
        """Read ``USER@HOST:PORT``; an IPv6 address is in brackets, user and port may be left out.

        Raises:
            ConfigError: It is written in another way.

        Example:
            >>> SshTarget.parse("pi@[fe80::1%eth0]:2222")
            SshTarget(host='fe80::1%eth0', user='pi', port=2222)
        """
        match = _TARGET.fullmatch(text)
        host = (match["bracketed"] or match["host"]) if match else ""
        port = int(match["port"]) if match and match["port"] else None
        user = match["user"] if match else None
        # A leading hyphen would be taken for an option of ssh.
        hyphen = host.startswith("-") or (user or "").startswith("-")
        if not host or hyphen or (port is not None and not 1 <= port <= 65535):
            raise ConfigError(
                f"{text!r} is no machine to log in to.",
                expected="USER@HOST:PORT; IPv6 in brackets, USER and PORT may be left out",
                next_step="write it as in pi@raspberrypi, pi@192.168.1.7:2222 or pi@[fe80::1%eth0]",
            )
        return cls(host, user, port)

    @property
    def arguments(self) -> list[str]:
        """For the ssh client: options first, the host last."""
        user = ["-l", self.user] if self.user else []
        port = ["-p", str(self.port)] if self.port else []
        return [*user, *port, "--", self.host]

    def __str__(self) -> str:
        """As a person would say it, without the port."""
        return f"{self.user}@{self.host}" if self.user else self.host
