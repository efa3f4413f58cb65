from pathlib import Path

from edgedf import typed_json
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.request import FULL, QUICK, Configuration, Effort, Request


def test_every_model_meets_every_number_of_threads_in_order() -> None:
    request = Request(("a", "b"), ("photo.jpg",), (1, 4))
    assert request.configurations == (
        Configuration(0, 1),
        Configuration(0, 4),
        Configuration(1, 1),
        Configuration(1, 4),
    )


def test_a_request_survives_json() -> None:
    request = Request(("a",), ("b", "c"), (2,), Effort(queries=3, sustained_seconds=60.0))
    assert typed_json.decode(Request, typed_json.encode(request)) == request


def test_a_job_becomes_the_request_of_a_worker_elsewhere() -> None:
    job = Job((Path("here/a.tflite"),), (Path("p.jpg"),), (1, 2), QUICK)
    request = job.request(("/there/a.tflite",), ("/there/0.jpg",))
    assert request == Request(("/there/a.tflite",), ("/there/0.jpg",), (1, 2), QUICK)


def test_the_full_effort_is_that_of_mlperf_and_quick_is_less_in_everything() -> None:
    assert (FULL.queries, FULL.seconds) == (1024, 60.0)
    assert (QUICK.queries, QUICK.seconds) == (128, 5.0)
    for name, value in typed_json.encode(QUICK).items():
        assert value <= getattr(FULL, name)
