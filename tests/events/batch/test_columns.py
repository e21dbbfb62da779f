"""Dataclasses of tensors with one row an event."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.events.batch.columns import Columns


@dataclass(frozen=True)
class Inner(Columns):
    z: Tensor | None = None


@dataclass(frozen=True)
class Outer(Columns):
    x: Tensor
    y: Tensor | None = None
    inner: Inner | None = None


def test_rows_of_inner_columns_go_along():
    outer = Outer(torch.arange(5), None, Inner(torch.arange(10).reshape(5, 2)))
    chosen = Outer.concatenate([outer[outer.x > 2], outer[0]])
    assert chosen.x.tolist() == [3, 4, 0]
    assert chosen.y is None
    assert chosen.inner.z.tolist() == [[6, 7], [8, 9], [0, 1]]
    assert list(chosen.known()) == ["x", "inner"]
    assert list(chosen.tensors()) == ["x"]
    assert len(Outer(torch.zeros(0))) == len(Inner()) == 0


def test_a_field_of_some_parts_only_is_refused():
    with pytest.raises(InputError, match="y: 1 of 2 parts have none"):
        Outer.concatenate([Outer(torch.zeros(2)), Outer(torch.zeros(2), torch.zeros(2))])


def test_the_first_fault_is_named():
    outer = Outer(torch.arange(4))
    assert outer.refuse({"no fault": outer.x < 0}) is outer
    with pytest.raises(InputError, match=r"event 2: large \(2 such events\)"):
        outer.refuse({"no fault": outer.x < 0, "large": outer.x > 1})
