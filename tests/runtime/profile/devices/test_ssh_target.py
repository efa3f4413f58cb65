import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.errors import ConfigError
from edgedf.runtime.profile.devices.ssh_target import SshTarget


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("raspberrypi", SshTarget("raspberrypi")),
        ("pi@raspberrypi", SshTarget("raspberrypi", "pi")),
        ("pi@192.168.1.7:2222", SshTarget("192.168.1.7", "pi", 2222)),
        ("[::1]", SshTarget("::1")),
        ("pi@[fe80::1%eth0]:22", SshTarget("fe80::1%eth0", "pi", 22)),
    ],
)
def test_a_target_is_read(text: str, target: SshTarget) -> None:
    assert SshTarget.parse(text) == target


@pytest.mark.parametrize(
    "text",
    ["", "@", "pi@", "::1", "a b", "pi@h:0", "pi@h:65536", "h:", "[h", "-oProxyCommand=x", "-l@h"],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no machine to log in to"):
        SshTarget.parse(text)


@given(st.text(max_size=30))
def test_no_text_becomes_an_option_of_ssh(text: str) -> None:
    try:
        target = SshTarget.parse(text)
    except ConfigError:
        return
    *options, marker, host = target.arguments
    assert marker == "--" and host == target.host and not host.startswith("-")
    assert all(value[0] != "-" for value in options[1::2])
