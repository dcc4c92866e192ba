import sys
from types import ModuleType

import pytest

from delineate.lazy import lazy_names


def test_a_name_is_loaded_once_and_an_unknown_one_is_an_attribute_error(monkeypatch):
    package, module = ModuleType("room"), ModuleType("room.part")
    module.thing = object()
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "room", package)
    monkeypatch.setitem(sys.modules, "room.part", module)
    find, names = lazy_names("room", {"thing": "part", "other": "elsewhere"})
    assert names() == ["other", "thing"]
    assert not hasattr(package, "thing")
    assert find("thing") is module.thing
    assert package.thing is module.thing
    with pytest.raises(AttributeError, match="module 'room' has no attribute 'thin'"):
        find("thin")
