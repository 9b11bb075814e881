"""Garbage is collected again after the import of Beam, however that ends."""

import gc

import pytest

from preprocess import forks


def test_garbage_is_collected_again() -> None:
    try:
        with forks.for_good():
            assert not gc.isenabled()
        assert gc.isenabled()
        with pytest.raises(ImportError), forks.for_good():
            raise ImportError
        assert gc.isenabled()
    finally:
        gc.unfreeze()
