"""The public surface, and that nothing heavy hides behind it."""

import subprocess
import sys

import edgedf

HEAVY = ("torch", "onnx", "onnxruntime", "ai_edge_litert", "tflite_runtime", "tensorflow", "jax")


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.partition(".")[0] for name in run.stdout.split()}


def test_all_is_pinned() -> None:
    assert edgedf.__all__ == [
        "Artifact",
        "CalibrationImages",
        "Detection",
        "Detector",
        "EdgedfError",
        "ModelSpec",
        "Recipe",
        "Threshold",
        "__version__",
        "convert",
        "load_image",
        "preprocess",
        "read_artifact",
    ]


def test_every_public_name_resolves_and_is_documented() -> None:
    for name in edgedf.__all__:
        value = getattr(edgedf, name)
        assert isinstance(value, str) or value.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    try:
        edgedf.nothing  # noqa: B018
    except AttributeError as error:
        assert "nothing" in str(error)
    else:
        raise AssertionError("no AttributeError")


def test_import_edgedf_loads_nothing_heavy() -> None:
    loaded = modules_after("import edgedf")
    assert not loaded & {*HEAVY, "numpy", "cv2"}


def test_the_contract_and_the_runtime_load_no_converter_and_no_torch() -> None:
    loaded = modules_after("import edgedf; edgedf.Detector, edgedf.read_artifact, edgedf.convert")
    assert "numpy" in loaded
    assert not loaded & set(HEAVY)
