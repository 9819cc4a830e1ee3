"""What commands that train have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def has_gpu() -> bool:
    """Without importing torch: the base install has none."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()


def stage_overrides(settings: tuple[str, ...], stages: tuple[str, ...],
                    training: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    """LLaMA-Factory keys by stage: the method's own, then ``--set [STAGE.]KEY=VALUE``."""
    import yaml

    from if_factory.errors import UserError

    kinds = {stage.partition("_")[0] for stage in stages}
    found = {name: dict(training.get(name, {})) for name in (*sorted(kinds), *stages)}
    for setting in settings:
        key, equals, value = setting.partition("=")
        stage, dot, name = key.rpartition(".")
        if not (equals and name) or (dot and stage not in found):
            raise UserError("expected KEY=VALUE or STAGE.KEY=VALUE", where=f"--set {setting}",
                            fix="for example --set num_train_epochs=3 --set dpo.learning_rate=5e-6")
        # YAML 1.1 reads 5e-6 as a string; LLaMA-Factory wants a number
        try:
            parsed: object = float(value) if "e" in value.lower() else yaml.safe_load(value)
        except ValueError:
            parsed = yaml.safe_load(value)
        for kind in (stage,) if dot else found:
            found[kind][name] = parsed
    return found
