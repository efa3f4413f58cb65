import dataclasses
import doctest
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf import settings as config
from edgedf.distill.settings import TrainSettings
from edgedf.errors import ConfigError
from edgedf.settings import MAX_CONFIG_BYTES, check_settings, dump_settings, load_settings


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    steps: int = 3

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ConfigError("A rate below 0.", expected="0 or more", next_step="raise it")


@dataclass(frozen=True)
class Settings:
    name: str = "first"
    dropout: float = 0.5
    fast: bool = False
    kind: Literal["a", "b"] = "a"
    sets: tuple[str, ...] = ("x",)
    limit: int | None = None
    weights: dict[str, float] = field(default_factory=dict)
    loop: Inner = field(default_factory=Inner)


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, "utf-8")
    return path


def test_overrides_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "file"\ndropout = 0.4\n[loop]\nsteps = 7\nrate = 0.2\n')
    found = load_settings(Settings, path, ["dropout=0.3", "loop.rate = 2e-3", "loop.rate=1"])
    assert found == Settings(name="file", dropout=0.3, loop=Inner(rate=1.0, steps=7))
    assert load_settings(Settings) == Settings()


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("name=plain text", "name", "plain text"),
        ("name='quoted'", "name", "quoted"),
        ("name=12", "name", "12"),
        ("name=a=b", "name", "a=b"),
        ("name=1\nfast=true", "name", "1\nfast=true"),
        ("fast=true", "fast", True),
        ("kind=b", "kind", "b"),
        ('sets=["x", "y"]', "sets", ("x", "y")),
        ("sets=[]", "sets", ()),
        ("limit=5", "limit", 5),
        ("weights={a = 1, b = 0.5}", "weights", {"a": 1.0, "b": 0.5}),
        ("dropout=1", "dropout", 1.0),
    ],
)
def test_values_on_the_command_line_are_toml_or_text(
    override: str, key: str, value: object
) -> None:
    assert getattr(load_settings(Settings, overrides=[override]), key) == value


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("dropuot", "dropout"),
        ("loop.stepps", "loop.steps"),
        ("steps", "loop.steps"),
        ("loop.dropout", "dropout"),
        ("lop.rate", "loop.rate"),
        ("rtae", "loop.rate"),
    ],
)
def test_a_key_that_does_not_exist_is_named_with_the_nearest_that_does(
    wrong: str, right: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"no setting '{wrong}'") as caught:
        load_settings(Settings, overrides=[f"{wrong}=1"])
    assert caught.value.next_step == f"did you mean {right!r}?"
    with pytest.raises(ConfigError, match=r"no setting .*settings\.toml") as caught:
        load_settings(Settings, write(tmp_path, f"{wrong} = 1\n"))
    if wrong != "lop.rate":  # in a file the table is what does not exist
        assert caught.value.next_step == f"did you mean {right!r}?"


def test_where_nothing_is_near_the_keys_are_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(Settings, overrides=["loop.zzzzzz=1"])
    assert caught.value.expected == "one of loop.rate, loop.steps"


@pytest.mark.parametrize(
    ("text", "message", "expected"),
    [
        ('dropout = "much"', "dropout is str, not number", "dropout of type float"),
        ("[loop]\nsteps = 1.5", "loop.steps is float, not integer", "loop.steps of type int"),
        ("fast = 1", "fast is int, not boolean", "fast of type bool"),
        ('kind = "c"', "kind is 'c', not one of a, b", "kind to be one of a, b"),
        ("sets = [1]", r"sets\[0\] is int, not string", "sets of type"),
        ("loop = 3", "loop is int, not an object", "loop of type Inner"),
        ("dropout = nan", "dropout is nan", "dropout of type float"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(
    text: str, message: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(Settings, write(tmp_path, text))
    assert caught.value.expected.startswith(expected)


def test_a_key_set_inside_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loop"):
        load_settings(Settings, write(tmp_path, "loop = 3"), ["loop.rate=1"])


def test_a_value_out_of_range_is_refused_by_its_own_class() -> None:
    with pytest.raises(ConfigError, match="A rate below 0"):
        load_settings(Settings, overrides=["loop.rate=-1"])


@pytest.mark.parametrize("override", ["dropout", "=3", ""])
def test_an_override_that_sets_nothing_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="sets nothing"):
        load_settings(Settings, overrides=[override])


def test_a_table_cannot_be_set_as_a_whole() -> None:
    with pytest.raises(ConfigError, match="'loop' is a table") as caught:
        load_settings(Settings, overrides=["loop=3"])
    assert "loop.rate" in caught.value.next_step


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"dropout = ", "is no TOML"),
        (b"\xff\xfe", "is no TOML"),
        (b"a = " + b"[" * 50_000, "is no TOML"),
        (b"#" * (MAX_CONFIG_BYTES + 1), "more than 1 MB"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        load_settings(Settings, path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Cannot read .*none\.toml"):
        load_settings(Settings, tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="Cannot read"):
        load_settings(Settings, tmp_path)


finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.builds(
        Settings,
        name=texts,
        dropout=finite,
        fast=st.booleans(),
        kind=st.sampled_from(["a", "b"]),
        sets=st.lists(texts).map(tuple),
        limit=st.none() | st.integers(-(2**63), 2**63 - 1),
        weights=st.dictionaries(texts, finite),
        loop=st.builds(Inner, rate=st.floats(0, 1e300), steps=st.integers(0, 9)),
    )
)
def test_what_is_written_is_read_back(settings: Settings) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.toml"
        path.write_bytes(dump_settings(settings).encode())
        assert load_settings(Settings, path) == settings


def test_the_examples_in_the_docstrings_work() -> None:
    results = doctest.testmod(config)
    assert results.attempted > 0
    assert results.failed == 0


def test_the_settings_of_training_survive(tmp_path: Path) -> None:
    settings = dataclasses.replace(TrainSettings(), name='a "b"', face_sets=("f", "g"))
    assert load_settings(TrainSettings, write(tmp_path, dump_settings(settings))) == settings


def test_a_file_that_notepad_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(b"\xef\xbb\xbfdropout = 0.25\r\n[loop]\r\nsteps = 7\r\n")
    settings = load_settings(Settings, path)
    assert (settings.dropout, settings.loop.steps) == (0.25, 7)
    path.write_bytes("dropout = 0.25".encode("utf-16"))
    with pytest.raises(ConfigError, match=r"is no TOML: it is in UTF-16") as caught:
        load_settings(Settings, path)
    assert "UTF-8" in caught.value.next_step


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("[0, inf)", (0, 7, 1e300), (-1, -1e-9, float("inf"), float("nan"))),
        ("(0, 1]", (1e-9, 0.5, 1), (0, 1.5)),
        ("[8, 32] in steps of 8", (8, 24, 32), (0, 12, 40)),
    ],
)
def test_ranges_are_read_as_mathematicians_write_them(
    text: str, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    for value in inside:
        check_settings(Inner(value), {text: "rate"})
    for value in outside:
        settings = Inner()
        object.__setattr__(settings, "rate", value)
        with pytest.raises(ConfigError, match=f"rate = {value} is outside its range") as caught:
            check_settings(settings, {"[0, 9]": "steps", text: "rate"})
        assert caught.value.expected == f"rate in {text}"
        assert caught.value.next_step == "rate=0.1, the default, is a good start"
