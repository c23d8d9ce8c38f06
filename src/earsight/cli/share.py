"""Commands that pass on what was learned: a report, weights."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from earsight.cli.show import emit, progress
from earsight.exporting.formats import Format


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write one offline page of one or several runs: settings, curves, figures, clips to play.

    Example: earsight report runs/first runs/second -o report.html
    """

    runs: Positional[tuple[Path, ...]]
    """Run folders, finished or under way."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The page (default, of a single run: report.html in its folder); a former one is replaced."""
    media: bool = True
    """Leave clips to be played out: names and numbers alone."""
    corpus: Path | None = None
    """Another corpus than the runs' to take held-out clips from."""
    labels: tuple[str, ...] = ()
    """Label columns to colour the map of the embedding by (default: the first that fit)."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Report."""
        from earsight import api

        with progress("decoding") as show:
            written = api.report(
                self.runs,
                self.output,
                media=self.media,
                corpus=self.corpus,
                labels=self.labels,
                progress=show,
            )
        emit(self.json, asdict(written), str(written))
        return 0


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a finished run as files that stand alone, with a card; or upload it to the hub.

    Example: earsight export runs/first --format onnx -o first-onnx --licence apache-2.0
    """

    folder: Positional[Path]
    """The run folder."""
    format: Format = "safetensors"
    """safetensors: all weights with their input settings. onnx, torch: a graph per encoder."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The folder to make; for safetensors also a single file of that ending."""
    licence: str = ""
    """Of the weights, such as apache-2.0 (default: unknown); imported weights keep theirs."""
    raw: bool = False
    """onnx, torch: take pixels and samples instead of prepared inputs."""
    overwrite: bool = False
    """Replace a former export."""
    push: str | None = None
    """OWNER/NAME on the hub to upload safetensors, settings and card to, instead of -o."""
    private: bool = False
    """With --push: into a repository that its owner alone can see."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Export."""
        if self.push is not None:
            return self._push(self.push)
        from earsight import api
        from earsight.exporting.write import describe

        if self.output is None:
            raise ValueError("nowhere to write to; give -o FOLDER, or --push OWNER/NAME")
        if self.private:
            raise ValueError("--private: has no effect without --push; leave it out")
        done = api.export(
            self.folder,
            self.output,
            format=self.format,
            licence=self.licence,
            raw=self.raw,
            overwrite=self.overwrite,
        )
        emit(self.json, done.as_dict(), describe(done))
        return 0

    def _push(self, repo: str) -> int:
        from earsight import hub

        given = {"-o": self.output, "--raw": self.raw, "--overwrite": self.overwrite}
        given["--format"] = self.format != "safetensors"
        for flag, value in given.items():
            if value:
                raise ValueError(f"{flag}: has no effect with --push, which uploads safetensors")
        where = hub.save_to_hub(self.folder, repo, private=self.private, licence=self.licence)
        emit(self.json, {"uploaded": where}, f"uploaded: {where}", run=self.folder)
        return 0
