"""Commands that show the presets."""

from dataclasses import dataclass

from tyro.conf import Positional

from earsight.cli.show import Settings, emit


@dataclass(frozen=True, kw_only=True)
class PresetsList:
    """List the presets.

    Example: earsight presets ls
    """

    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """List."""
        from earsight import presets

        known = {name: presets.about(name) for name in presets.names()}
        width = max(map(len, known))
        emit(self.json, known, "\n".join(f"{n:{width}}  {about}" for n, about in known.items()))
        return 0


@dataclass(frozen=True, kw_only=True)
class PresetsShow:
    """Print every setting of a preset, those that it leaves at their default too.

    Example: earsight presets show tiny
    """

    preset: Positional[str]
    settings: Settings = ()
    """Settings to change: section.name=value."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Show."""
        from earsight import api
        from earsight.config import as_tree, yaml_text

        config = api.configure(self.preset, settings=self.settings)
        emit(self.json, as_tree(config), yaml_text(config))
        return 0


@dataclass(frozen=True, kw_only=True)
class PresetsDiff:
    """Print the settings in which two presets differ.

    Example: earsight presets diff tiny tiny-self
    """

    first: Positional[str]
    second: Positional[str]
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Compare."""
        from earsight import api
        from earsight.config import as_tree
        from earsight.presets import difference

        first, second = (as_tree(api.configure(name)) for name in (self.first, self.second))
        rows = difference(first, second)
        text = "\n".join(f"{path}: {one} -> {two}" for path, one, two in rows)
        emit(self.json, rows, text or "no difference")
        return 0
