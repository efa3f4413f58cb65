import numpy as np

from edgedf.distill.evaluation.predictions import predict
from edgedf.distill.networks.student import Student
from edgedf.distill.settings import StudentConfig

SMALL = StudentConfig(input_size=32)


def test_predictions_do_not_depend_on_the_batch_and_leave_the_mode_alone() -> None:
    student = Student(SMALL)
    student.train()
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    one, all_at_once = (predict(student, images, batch=batch) for batch in (1, 5))
    assert student.training
    assert np.allclose(one.logits, all_at_once.logits, atol=1e-5)
    assert one.maps is not None
    assert all_at_once.maps is not None
    assert np.allclose(one.maps, all_at_once.maps, atol=1e-5)
    assert one.maps.shape == (5, 8, 8)
