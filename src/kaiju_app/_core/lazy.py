"""Names of a package that are imported when somebody asks for them: what few programs need costs no other a thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, names: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` (PEP 562) of a package that imports *names* when they are asked for.

    Type checkers take a module with a ``__getattr__`` as one that has every name: hide it from them, and import the
    names for them.

    Args:
        package: Name of the package.
        names: The names that each of its modules has for it.
    """
    homes = {name: module for module, all_of_it in names.items() for name in all_of_it}

    def get(name: str) -> Any:
        here = import_module(package)
        if f".{name}" in names:  # ``import kaiju_app`` is enough for ``kaiju_app.scheduler``.
            return import_module(f".{name}", package)
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=here)
        value = getattr(import_module(homes[name], package), name)
        setattr(here, name, value)
        return value

    def names_of_package() -> list[str]:
        return sorted({*vars(import_module(package)), *homes})

    return get, names_of_package
