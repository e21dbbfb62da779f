"""Random numbers come from a generator of the right type, and anything else is refused in one line."""

import numpy as np
import pytest
import torch

from rewind.errors import InputError
from rewind.random_numbers import optional_generator, require_generator, require_rng


def test_what_is_right_comes_back():
    generator, rng = torch.Generator().manual_seed(1), np.random.default_rng(1)
    assert require_generator(generator) is generator
    assert optional_generator(generator) is generator
    assert optional_generator(None) is None
    assert require_rng(rng) is rng


@pytest.mark.parametrize(
    "wrong", [1, "seed", np.random.default_rng(1), torch.manual_seed], ids=lambda wrong: type(wrong).__name__
)
def test_another_type_is_refused(wrong):
    for require in (require_generator, optional_generator):
        with pytest.raises(InputError, match=r"generator: \w+ given; a torch generator is needed") as caught:
            require(wrong)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [1, None, torch.Generator()], ids=["int", "None", "torch"])
def test_another_type_of_rng_is_refused(wrong):
    with pytest.raises(InputError, match=r"rng: \w+ given; a NumPy generator is needed"):
        require_rng(wrong)
    if wrong is None:
        with pytest.raises(InputError, match="NoneType"):
            require_generator(None)
