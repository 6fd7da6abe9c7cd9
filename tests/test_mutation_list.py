"""The list of mutations is current: each still changes exactly one place of a module that exists."""

import pytest

from tests.mutations.__main__ import MUTATIONS, ROOT, copy_tree, is_red


@pytest.mark.parametrize("module", sorted({mutation.module for mutation in MUTATIONS}))
def test_mutations_apply(module):
    """The old text occurs once, the new one differs, and the tests to run first are there."""
    source = (ROOT / f"{module}.py").read_text()
    for mutation in MUTATIONS:
        if mutation.module == module:
            assert source.count(mutation.old) == 1, mutation
            assert mutation.new != mutation.old
            assert ((ROOT / "tests" / module).parent / f"{mutation.first}.py").exists(), mutation


def test_a_copy_of_the_tree_runs_its_own_formulas(tmp_path):
    """The mutant is what the tests of the copy see, not the tree that it was copied from."""
    copy_tree(tmp_path)
    mutation = MUTATIONS[0]
    name = f"plumbline.{mutation.module.replace('/', '.')}"
    (tmp_path / "tests" / "test_mutant.py").write_text(
        f"from pathlib import Path\nimport {name} as module\n\n\n"
        f"def test_mutant():\n"
        f"    assert Path(module.__file__).is_relative_to(Path(__file__).parents[1])\n"
        f"    assert {mutation.old!r} in Path(module.__file__).read_text()\n"
    )
    assert not is_red(tmp_path, ["tests/test_mutant.py"])
    mutation.apply(tmp_path)
    assert is_red(tmp_path, ["tests/test_mutant.py"])
