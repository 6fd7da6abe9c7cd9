"""Batteries of wrong calls: each is refused with a ValueError that names the parameter and shows the value."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

Case = tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any], str, str]


def battery(cases: Sequence[Case]) -> Any:
    """Parametrise a test over wrong calls: function, arguments, keywords, the parameter, and what is shown of it."""
    names = [f"{index}-{case[0].__name__}-{case[3]}" for index, case in enumerate(cases)]
    return pytest.mark.parametrize(("function", "arguments", "keywords", "parameter", "shown"), cases, ids=names)


def assert_refused(
    function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any], parameter: str, shown: str
) -> None:
    """The message names the parameter, and shows the value or the remedy; a subclass of ValueError will not do."""
    with pytest.raises(ValueError) as caught:
        function(*arguments, **keywords)
    assert parameter in str(caught.value)
    assert shown in str(caught.value)
    assert type(caught.value) is ValueError
