"""The start-up hook: lets LLaMA-Factory's own command run ``stage: iorpo``.

``if_factory_autoload.pth`` imports this module whenever this environment's Python starts. It imports only
``sys`` and puts one finder on ``sys.meta_path``. Only when ``llamafactory.train.tuner`` is imported does the
finder hand over to ``if_factory.iorpo.autoload``. It never raises, also where if_factory is broken or gone.
"""

import sys


class IfFactoryHook:
    """A finder for one module; for every other it answers ``None`` after one comparison."""

    @staticmethod
    def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name != "llamafactory.train.tuner":
            return None
        try:
            from if_factory.iorpo.autoload import find_spec
        except Exception:  # LLaMA-Factory's own stages do not depend on us
            return None
        return find_spec(name, path, target)


if IfFactoryHook.__name__ not in [getattr(finder, "__name__", "") for finder in sys.meta_path]:
    sys.meta_path.insert(0, IfFactoryHook)  # type: ignore[arg-type]
