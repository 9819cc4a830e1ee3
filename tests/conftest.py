import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

# The tests that decide about a change draw the same examples every time; elsewhere new ones are looked for.
settings.register_profile("decide", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Scripted answers are about nothing, and a test must not depend on what is installed: relevance is off, also in
# the commands that a test starts and in fixtures of a module. Rules decide.
os.environ["IF_FACTORY_EMBEDDINGS"] = "off"


@pytest.fixture(autouse=True)
def _embeddings_where_asked_for(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of relevance itself are marked ``relevance``."""
    if request.node.get_closest_marker("relevance"):
        monkeypatch.setenv("IF_FACTORY_EMBEDDINGS", "on")


@pytest.fixture(scope="session")
def hf_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as a folder to train, read only: converted once for all test processes of a run."""
    for package in ("torch", "transformers", "gguf"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    from filelock import FileLock

    from if_factory.embedded_model.fetch import fetch_embedded
    from if_factory.embedded_model.gguf_to_hf import convert

    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each process has a folder of its own in the run's
        base = base.parent
    with FileLock(base / "hf_model.lock"):
        return convert(fetch_embedded(), base / "hf_model")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data; tests that need it are skipped where it is not there."""
    folder = Path(os.environ.get("IF_FACTORY_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip("reference data not found: set IF_FACTORY_SHARED to its folder")
    return folder


@pytest.fixture
def own_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constraint types that the test registers in this process are gone after it: others draw from all there are."""
    from if_factory.constraints import base

    list(base.all_types())
    for known in ("_REGISTRY", "_plugins"):
        monkeypatch.setattr(base, known, dict(getattr(base, known)))
