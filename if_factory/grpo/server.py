"""A general reward model behind HTTP, asked as LLaMA-Factory asks one (``reward_model_type: api``)."""

from __future__ import annotations

import json
import logging
import math
import time
import urllib.request
from collections.abc import Callable, Sequence

from if_factory.errors import UserError

_logger = logging.getLogger(__name__)
_TRIES, _SECONDS = 3, 120.0


class RewardServer:
    """Asks a server for one number per text; a server that is away costs its part of the reward, not the run.

    Args:
        url: http or https.
        wait: seconds before the second try, and twice that before the third.

    Raises:
        UserError: ``url`` is no such URL.
    """

    def __init__(self, url: str, *, wait: float = 2.0, sleep: Callable[[float], None] = time.sleep) -> None:
        if not url.startswith(("http://", "https://")):
            raise UserError(f"'{url}' is no URL", where="field 'reward_model'", fix="write http://host:port/path")
        self._url, self._wait, self._sleep = url, wait, sleep

    def scores(self, texts: Sequence[str]) -> list[float] | None:
        """One score per text; ``None`` for all of them where the server gives none, which is told in the log.

        A part of the scores would move the answers of one group apart that earned the same.

        Args:
            texts: prompt and answer as one text each, with the template's tokens.
        """
        why = ""
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(self._wait * attempt)
            try:
                body = json.dumps({"model": "model", "messages": list(texts)}).encode()
                request = urllib.request.Request(  # noqa: S310 - the scheme is http(s), see __init__
                    self._url, body, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
                    found = json.load(answer)
                scores = [float(s) for s in found["scores"]]
                if len(scores) == len(texts) and all(map(math.isfinite, scores)):
                    return scores
                why = f"{len(scores)} finite scores were expected for {len(texts)} texts"
            except (OSError, ValueError, KeyError, TypeError) as e:
                why = f"{type(e).__name__}: {e}"
        _logger.warning("the reward model at %s gave no scores (%s): this step is rewarded without it", self._url, why)
        return None
