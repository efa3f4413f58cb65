import pytest


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> None:
    """Small tensors on several threads mostly wait for each other."""
    import torch

    torch.set_num_threads(1)
