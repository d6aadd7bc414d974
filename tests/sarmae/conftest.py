"""What the trainer's tests share."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tiny products: more threads wait for each other longer than they compute."""
    torch.set_num_threads(1)
