"""The parts of a recipe: how to reach a model, budgets, general data, limits of the sandbox."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

EMBEDDED_MAX_TOKENS = 512  # its context is small, and a small model may not know how to end


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")


class PriceSpec(Strict):
    prompt: Annotated[float, Field(ge=0)] = Field(description="USD per million prompt tokens")
    completion: Annotated[float, Field(ge=0)] = Field(description="USD per million completion tokens")


class ModelSpec(Strict):
    """How to reach one model."""

    endpoint: str | list[str] = Field(
        "embedded", description="an OpenAI-compatible URL (http://localhost:8000/v1), a list of URLs that serve the "
        "same model, `embedded` for the small built-in model, `embedded:/path/to.gguf`, or `vllm:MODEL` (a folder or "
        "hub name), which starts vLLM")
    model: str | None = Field(None, description="model name at that endpoint; null takes the first it serves")
    api_key_env: str = Field("OPENAI_API_KEY", description="environment variable that holds the key")
    concurrency: Annotated[int, Field(ge=1)] = Field(32, description="requests in flight at most, at each URL")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        0.7, description="sampling temperature; null sends none")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(1.0, description="nucleus sampling; null sends none")
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="completion tokens per answer at most; null: 512 for `embedded`, the server's own limit "
        "for a URL")
    extra_body: dict[str, Any] | None = Field(
        None, description="more fields of every request, e.g. {chat_template_kwargs: {enable_thinking: false}}; a "
        "null in it keeps a field from being sent")
    timeout: Annotated[float, Field(gt=0)] = Field(600, description="seconds before a request is tried again")
    wait_for_server: Annotated[float, Field(ge=0)] = Field(
        300, description="seconds to wait for a server that loads its model, or is gone in the middle of a run")
    context: Annotated[int, Field(ge=256)] = Field(
        2048, description="embedded only: tokens per request at most, prompt and answer together")
    threads: Annotated[int, Field(ge=1)] | None = Field(
        None, description="embedded only: CPU threads; null takes the cores that other work leaves free")
    args: dict[str, Any] = Field({}, description="vllm only: flags of its server, e.g. {max-model-len: 4096}")
    start_timeout: Annotated[float, Field(gt=0)] = Field(
        1800, description="vllm only: seconds until the server must be ready")
    price: PriceSpec | None = Field(None, description="{prompt, completion} in USD per million tokens")

    @property
    def embedded(self) -> bool:
        """Served by llama.cpp, in a process that the run starts."""
        return isinstance(self.endpoint, str) and self.endpoint.split(":")[0] == "embedded"

    @property
    def vllm(self) -> str | None:
        """The folder or hub name that the run starts vLLM with."""
        kind, _, model = str(self.endpoint).partition(":")
        return model if kind == "vllm" else None

    @property
    def ours(self) -> bool:
        """Served on this machine by what the run starts, and free."""
        return self.embedded or self.vllm is not None

    @property
    def urls(self) -> list[str]:
        """The endpoint as a list."""
        return [self.endpoint] if isinstance(self.endpoint, str) else self.endpoint

    @property
    def answer_tokens(self) -> int | None:
        """``max_tokens``, or what takes its place; ``None`` leaves it to the server."""
        return EMBEDDED_MAX_TOKENS if self.max_tokens is None and self.embedded else self.max_tokens

    @field_validator("endpoint")
    @classmethod
    def _several_urls(cls, given: str | list[str]) -> str | list[str]:
        if isinstance(given, str):
            if given in ("vllm", "vllm:"):
                raise ValueError("vllm needs a model: vllm:FOLDER or vllm:HUB/NAME")
            return given
        if not given or len(set(given)) < len(given) or any(u.split(":")[0] in ("embedded", "vllm") for u in given):
            raise ValueError("a list of endpoints holds different URLs, at least one")
        return given[0] if len(given) == 1 else given

    @field_validator("extra_body")
    @classmethod
    def _no_field_of_ours(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        if ours := sorted({"model", "messages", "stream", "n", "response_format"} & set(given or ())):
            raise ValueError(f"'{ours[0]}' is set by the run itself")
        return given

    @model_validator(mode="after")
    def _args_are_vllms(self) -> ModelSpec:
        if self.args and self.vllm is None:
            raise ValueError("`args` are flags of vLLM's server and go with `endpoint: vllm:MODEL`")
        return self

    @model_validator(mode="before")
    @classmethod
    def _url_alone(cls, given: Any) -> Any:
        """``student: http://localhost:8000/v1`` is enough; so is ``student:`` alone."""
        return {"endpoint": given} if isinstance(given, str | list) else given or {}


class BudgetSpec(Strict):
    """The run stops cleanly before it would pass one of these, and continues from there another day."""

    max_requests: Annotated[int, Field(ge=1)] | None = Field(None, description="requests")
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description="prompt plus completion tokens")
    max_usd: Annotated[float, Field(gt=0)] | None = Field(None, description="USD; needs a price for every model")


class ConstraintSpec(Strict):
    plugins: list[str] = Field([], description="Python files with constraint types of your own")


_RATIO = re.compile(r"\s*([0-9.]+)(k?)\s*(?::|to)\s*([0-9.]+)(k?)\s*", re.IGNORECASE)


class ReplaySpec(Strict):
    """General data mixed into SFT so that the model keeps what it could do."""

    file: str | None = Field(None, description="alpaca rows, ShareGPT's `conversations` or OpenAI's `messages` in "
                             ".jsonl or .json")
    rows: Annotated[int, Field(ge=0)] = Field(0, description="rows drawn from it, with the run's seed")
    ratio: str | float | None = Field(None, description="instead of `rows`: general rows to SFT rows of the run, "
                                      "`53k to 13k`, or general rows per SFT row, `4.1`")
    max_characters: Annotated[int, Field(ge=1)] | None = Field(
        6000, description="the longest row taken, all turns together; null takes any")
    languages: list[str] = Field([], description="only rows in one of these (ISO 639-1); [] takes all")

    @model_validator(mode="after")
    def _one_share(self) -> ReplaySpec:
        if self.ratio is not None and self.rows:
            raise ValueError("give `rows` or `ratio`, not both")
        if self.ratio is not None and not self.per_row:
            raise ValueError("`ratio` is two numbers above 0, `53k to 13k`, or one, `4.1`")
        # YAML reads an unquoted 53:13 as 53 * 60 + 13; the least number that it makes of two is 60.
        if isinstance(self.ratio, int | float) and self.ratio >= 60:
            raise ValueError("a number must be below 60; of two numbers write `53k to 13k`, or quote \"53:13\"")
        return self

    @property
    def per_row(self) -> float:
        """General rows per SFT row; 0 where no ratio is given, or none that can be read."""
        if isinstance(self.ratio, int | float):
            return max(0.0, float(self.ratio))
        if not (found := _RATIO.fullmatch(self.ratio or "")):
            return 0.0
        try:
            general, own = (float(number) * (1000 if k else 1) for number, k in (found.group(1, 2), found.group(3, 4)))
            return general / own
        except (ValueError, ZeroDivisionError):
            return 0.0

    def wanted(self, sft_rows: int) -> int:
        """How many general rows go with so many SFT rows."""
        return self.rows or round(self.per_row * sft_rows)


class SandboxSpec(Strict):
    """How functions that a model wrote are run; the limits are per step: loading a function, or one input."""

    allow_weak: bool = Field(False, description="run generated code under resource limits only")
    workers: Annotated[int, Field(ge=1)] = Field(2, description="functions run at once")
    cpu_seconds: Annotated[float, Field(gt=0)] = Field(2.0, description="CPU time of a function, per input")
    wall_seconds: Annotated[float, Field(gt=0)] = Field(10.0, description="wall clock of a function, per input")
    memory_mb: Annotated[int, Field(ge=16)] = Field(256, description="memory beyond Python's own")
