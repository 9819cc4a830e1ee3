"""Registers ``stage: iorpo``, ``stage: grpo`` and the key ``logps_chunk_size`` when LLaMA-Factory's command imports
``llamafactory.train.tuner``.

The start-up hook (``if_factory_autoload.py``; what it costs: ``benchmarks/startup.py``) calls ``find_spec`` here
when, and only if, that module is imported. ``IF_FACTORY_AUTOLOAD=0`` switches it off.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType

HOOK = "IfFactoryHook"  # the class in if_factory_autoload.py
TARGET = "llamafactory.train.tuner"
_OFF = ("0", "false", "no", "off")
_looking = False


def wanted() -> bool:
    """Whether the environment leaves the hook on."""
    return os.environ.get("IF_FACTORY_AUTOLOAD", "1").strip().lower() not in _OFF


def installed() -> bool:
    """Whether the .pth file has put the hook in place in this process."""
    return any(getattr(finder, "__name__", "") == HOOK for finder in sys.meta_path)


def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
    """For the start-up hook: TARGET as any other finder finds it, with the stages registered once it has run."""
    return _Forced.find_spec(name, path, target) if wanted() else None


def force() -> None:
    """The same without the .pth file, whatever the environment says: for our own launcher and Ray's workers."""
    if _Forced not in sys.meta_path:
        sys.meta_path.insert(0, _Forced)


class _Forced:
    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        global _looking
        if name != TARGET or _looking:  # asked again by our own search below
            return None
        _looking = True
        try:
            found = (finder.find_spec(name, path, target) for finder in sys.meta_path)
            spec = next((s for s in found if s is not None), None)
        finally:
            _looking = False
        if spec is not None and spec.loader is not None:
            _register_after(spec.loader)
        return spec


def _register_after(loader: Loader) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        missing = []
        # by name: grpo stands on a floor above this one; logps last, its wrapper must be the outermost
        for package, what in (("iorpo", "stage iorpo"), ("grpo", "stage grpo"), ("logps", "logps_chunk_size")):
            try:
                import_module(f"if_factory.{package}.register").add_stage(module)
            except Exception as e:  # LLaMA-Factory's other stages do not depend on us
                missing.append(f"{what} is not available ({type(e).__name__}: {e})")
        if missing:
            print(f"if_factory: {'; '.join(missing)}", file=sys.stderr)

    loader.exec_module = exec_module  # type: ignore[method-assign]
