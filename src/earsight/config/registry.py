"""Settings that depend on a choice: registered under its name, with what builds it."""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Generic, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked

Built = TypeVar("Built")
Section = TypeVar("Section")


class ConfigError(ValueError):
    """Settings that cannot be used; ``faults`` names every one, with its path and remedy."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        many = len(self.faults) > 1
        head = f"{len(self.faults)} settings cannot be used:\n" if many else ""
        super().__init__(head + "\n".join(f"  {f}" if many else f for f in self.faults))


class Registry(Generic[Built]):
    """Choices by name, each with the dataclass of its settings and a function that builds it.

    Args:
        kind: what they are, for messages.
        home: the package whose import registers those that are earsight's own: imported when the
            choices are first asked for, so that whoever reads settings need not know it.
    """

    def __init__(self, kind: str, home: str) -> None:
        self.kind = kind
        self.home = home
        self._entries: dict[str, tuple[type[Any], Callable[..., Built]]] = {}

    def register(
        self, name: str, settings: type[Any]
    ) -> Callable[[Callable[..., Built]], Callable[..., Built]]:
        """Decorator: make ``build(settings, …)`` available under ``name``."""

        def decorate(build: Callable[..., Built]) -> Callable[..., Built]:
            # One that comes first must not take the name of one of earsight's own.
            known = self._known().get(name)
            if known is not None and known[1].__qualname__ != build.__qualname__:
                raise ValueError(f"a {self.kind} named {name!r} is registered already")
            self._entries[name] = (settings, build)
            return build

        return decorate

    def names(self) -> list[str]:
        """The registered names, sorted."""
        return sorted(self._known())

    def settings_of(self, name: str) -> type[Any]:
        """The settings class of a choice."""
        return self._known()[name][0]

    def build(self, settings: Any, *args: Any, **kwargs: Any) -> Built:
        """Build what ``settings`` (an instance with a ``name``) describes."""
        return self._known()[settings.name][1](settings, *args, **kwargs)

    def _known(self) -> dict[str, tuple[type[Any], Callable[..., Built]]]:
        import_module(self.home)
        return self._entries


METHODS: Registry[Any] = Registry("method", "earsight.methods")
VIDEO_ENCODERS: Registry[Any] = Registry("video encoder", "earsight.encoders")
AUDIO_ENCODERS: Registry[Any] = Registry("audio encoder", "earsight.encoders")

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def section(cls: type[Section]) -> type[Section]:
    """Decorator: a keyword-only frozen dataclass whose types are checked and extras refused."""
    made: Any = checked(config=_STRICT, kw_only=True, frozen=True)(cls)
    return cast(type[Section], made)


CHOICES = {
    "method": METHODS,
    "video_encoder": VIDEO_ENCODERS,
    "audio_encoder": AUDIO_ENCODERS,
}
