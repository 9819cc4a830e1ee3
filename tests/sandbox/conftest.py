from collections.abc import Iterator

import pytest

from if_factory.sandbox import Limits, Pool, isolation

LIMITS = Limits(cpu_seconds=0.3, wall_seconds=2.0, total_seconds=20)


@pytest.fixture(scope="session")
def strong() -> None:
    if isolation().level != "landlock+seccomp":
        pytest.skip(f"this machine isolates by {isolation()}")


@pytest.fixture(scope="module")
def pool(strong: None) -> Iterator[Pool]:
    """One worker, so that whatever runs next runs in the same fork server."""
    with Pool(workers=1, limits=LIMITS) as pool:
        yield pool
