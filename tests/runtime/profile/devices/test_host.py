from pathlib import Path

from edgedf.runtime.profile.devices.host import _environment


def test_what_slows_python_down_is_not_handed_on_and_paths_stay_the_same() -> None:
    own = {"PYTHONPATH": "lib:/else/lib", "PYTHONDEVMODE": "1", "LD_LIBRARY_PATH": "/else"}
    assert _environment(own) == {
        "PYTHONPATH": f"{Path.cwd() / 'lib'}:/else/lib",
        "LD_LIBRARY_PATH": "/else",
    }
