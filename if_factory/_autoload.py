"""The start-up hook: makes ``stage: iorpo`` known to a LLaMA-Factory that is started by its own command.

``if_factory_autoload.pth`` runs ``install`` whenever this environment's Python starts. It puts one finder on
``sys.meta_path`` and does nothing else: the stage is registered when, and only if, ``llamafactory.train.tuner`` is
imported. Nothing but ``os`` and ``sys`` is imported here, because every Python start pays for it
(``benchmarks/startup.py``). It never raises. ``IF_FACTORY_AUTOLOAD=0`` switches it off.
"""

import os
import sys

TARGET = "llamafactory.train.tuner"
_OFF = ("0", "false", "no", "off")


class Hook:
    """Finds TARGET with the finders after it, as if it were not there, and registers the stage once it has run."""

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]  # asked for every import
        """The spec of TARGET; ``None`` (not mine) for any other name."""
        if name != TARGET:
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    _register_after(spec.loader)  # type: ignore[no-untyped-call]
                    return spec
        return None


def _register_after(loader):  # type: ignore[no-untyped-def]
    execute = loader.exec_module

    def exec_module(module):  # type: ignore[no-untyped-def]
        execute(module)
        try:
            from if_factory.iorpo.register import register

            register(module)
        except Exception as e:  # LLaMA-Factory's other stages do not depend on us
            print(f"if_factory: stage iorpo is not available ({type(e).__name__}: {e})", file=sys.stderr)

    loader.exec_module = exec_module


def wanted() -> bool:
    """Whether the environment leaves the hook on."""
    return os.environ.get("IF_FACTORY_AUTOLOAD", "1").strip().lower() not in _OFF


def installed() -> bool:
    """Whether the hook is in force in this process."""
    return any(type(finder) is Hook for finder in sys.meta_path)


def install() -> None:
    """Put the hook in force, unless it is switched off."""
    if wanted():
        force()


def force() -> None:
    """Put the hook in force whatever the environment says: for our own launcher, and for Ray's workers."""
    if not installed():
        sys.meta_path.insert(0, Hook())
