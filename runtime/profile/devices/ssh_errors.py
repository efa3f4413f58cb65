"""What the OpenSSH client's complaints mean, and what to do about them."""

from __future__ import annotations

from edgedf.errors import DeviceError
from edgedf.runtime.profile.devices.ssh_target import SshTarget
from edgedf.runtime.profile.devices.stream import last_line

__all__ = ["login_error", "lost", "no_client"]

_REACH = "a machine that answers there, with an SSH server"

# Part of what ssh writes, what was wrong, what would have been right, what to do. The first one
# that fits counts. {host}, {target} and {login} are filled in.
_COMPLAINTS = (
    (
        "remote host identification has changed",
        "{host} shows another host key than the one on record, so ssh does not log in.",
        "the host key in known_hosts; another one means a new system there, or another machine",
        "if you installed it anew: ssh-keygen -R {known}, then log in by hand once: {login}",
    ),
    (
        "host key verification failed",
        "The host key of {host} is not known here, so ssh does not log in.",
        "a machine whose host key is in known_hosts",
        "log in by hand once and look at the key that is shown: {login}",
    ),
    (
        "permission denied",
        "{host} does not let us in as {user}.",
        "a key that is accepted there without a question (passwords are not asked for)",
        "copy yours there: {copy}; or name one with --identity",
    ),
    (
        "too many authentication failures",
        "{host} refused after too many keys were tried.",
        "the right key among the first ones",
        "name it with --identity",
    ),
    (
        "connection refused",
        "Nothing listens for SSH on {host}{port}.",
        _REACH,
        "start its SSH server, or name its port: ssh:HOST:PORT",
    ),
    (
        "could not resolve hostname",
        "There is no machine with the name {host}.",
        "a name, an address, or an alias in ~/.ssh/config",
        "check the spelling, or use the address",
    ),
    ("timed out", "{host} does not answer.", _REACH, "see that it is on and in this network"),
    ("no route to host", "There is no way to {host}.", _REACH, "see that it is in this network"),
    ("network is unreachable", "There is no way to {host}.", _REACH, "connect to its network"),
    (
        "bad configuration option",
        "ssh does not know one of its options.",
        "options that man ssh_config lists",
        "see the message: {complaint}",
    ),
)


def login_error(target: SshTarget, complaints: str) -> DeviceError:
    """Why ssh did not log in.

    Args:
        target: Where.
        complaints: What ssh wrote.
    """
    low = complaints.lower()
    last = last_line(complaints)
    for part, message, expected, next_step in _COMPLAINTS:
        if part in low:
            words = _words(target, last)
            return DeviceError(
                message.format(**words),
                expected=expected.format(**words),
                next_step=next_step.format(**words),
            )
    return DeviceError(
        f"ssh could not log in to {target}: {last}.",
        expected="a login without a question",
        next_step=f"try it by hand: {_login(target)}",
    )


def lost(target: SshTarget, doing: str, *, left: str = "") -> DeviceError:
    """The connection to a machine broke.

    Args:
        target: To where.
        doing: What was going on.
        left: Folder that may still be there, as we could not come back to look; empty for none.
    """
    next_step = "see that the machine is on and the network holds, then run it again"
    if left:
        next_step += (
            f"; the folder {left} removes itself there within a minute, unless the machine went "
            "down: then remove it by hand"
        )
    return DeviceError(
        f"The connection to {target} was lost while {doing}; what had been measured was kept.",
        expected="a connection that lasts until the end",
        next_step=next_step,
    )


def no_client() -> DeviceError:
    """There is no ssh here."""
    return DeviceError(
        "There is no ssh on this machine.",
        expected="the OpenSSH client",
        next_step="install it: apt install openssh-client, or the like",
    )


def _words(target: SshTarget, complaint: str) -> dict[str, str]:
    port = f" -p {target.port}" if target.port else ""
    return {
        "host": target.host,
        "known": f"'[{target.host}]:{target.port}'" if target.port else target.host,
        "user": target.user or "this user",
        "port": f" at port {target.port}" if target.port else "",
        "login": _login(target),
        "copy": f"ssh-copy-id{port} {target}",
        "complaint": complaint,
    }


def _login(target: SshTarget) -> str:
    return f"ssh{f' -p {target.port}' if target.port else ''} {target}"
