import pickle

import pytest

from edgedf import errors


def all_errors() -> list[type[errors.EdgedfError]]:
    return [getattr(errors, name) for name in errors.__all__]


def test_all_lists_every_exception_of_the_module() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined == set(errors.__all__)


def test_the_tree_at_the_head_of_the_module_is_the_hierarchy() -> None:
    assert errors.__doc__ is not None
    for error in all_errors():
        assert error.__name__ in errors.__doc__
        assert issubclass(error, errors.EdgedfError)
    assert issubclass(errors.ImageTooLarge, errors.ImageError)
    assert issubclass(errors.SpecMismatch, errors.ArtifactError)


def test_message_says_what_was_wrong_what_was_expected_and_the_next_step() -> None:
    error = errors.DataError("No rows.", expected="one row a file", next_step="write some")
    assert str(error) == "No rows.\nExpected: one row a file\nNext step: write some"


def test_missing_extra_gives_the_command() -> None:
    assert "pip install 'edgedf[tflite]'" in str(errors.MissingExtra("tflite", "Running it"))


@pytest.mark.parametrize(
    "error",
    [errors.ConfigError("a", expected="b", next_step="c"), errors.MissingExtra("onnx", "This")],
)
def test_errors_survive_a_process_border(error: errors.EdgedfError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
