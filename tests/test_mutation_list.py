"""The list of mutations is current: each still changes exactly one place of a module that exists."""

import pytest

from tests.mutations.__main__ import MUTATIONS, ROOT


@pytest.mark.parametrize("module", sorted({mutation.module for mutation in MUTATIONS}))
def test_mutations_apply(module):
    """The old text occurs once, the new one differs, and the tests to run first are there."""
    source = (ROOT / f"{module}.py").read_text()
    for mutation in MUTATIONS:
        if mutation.module == module:
            assert source.count(mutation.old) == 1, mutation
            assert mutation.new != mutation.old
            assert ((ROOT / "tests" / module).parent / f"{mutation.first}.py").exists(), mutation
