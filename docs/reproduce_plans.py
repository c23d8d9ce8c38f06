"""What docs/make_reproduce.py writes of: configurations, evaluations, differences."""

from collections.abc import Mapping
from dataclasses import dataclass

from earsight import api
from earsight.config import RunConfig

GPUS = 4
"""Of which AVID's batch of 256 gives each the 64 clips that were measured."""
LISTED = {
    "kinetics-400": 306_245,
    "kinetics-700": 650_317,
    "audioset": 2_084_320,
    "audioset-240k": 260_371,
}
"""Clips that data sets' lists name, those held out among them."""

THOUSANDS = {"K": 1e3, "M": 1e6}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A configuration of one of the papers.

    Attributes:
        title: of its section.
        preset: of its run, which is named as the preset is.
        layout: of the data set.
        sizes: that the paper prints for it; the first counts.
        options: of the scan.
        root: folder of the media, where it is not named as the layout is.
        settings: beside the preset's.
        start: the preset of the run that it starts from.
        methods: as the paper names them.
        architectures: of the figures; all where it is empty.
    """

    title: str
    preset: str
    layout: str
    sizes: tuple[str, ...]
    options: str = ""
    root: str = ""
    settings: tuple[str, ...] = ()
    start: str = ""
    methods: tuple[str, ...] = ("CM-ACC",)
    architectures: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """Whose shards it reads."""
        return "cm-acc" if self.preset.startswith("cm-acc") else "avid"

    @property
    def corpus(self) -> str:
        """Name of the manifest."""
        return self.layout + ("-240k" if self.options else "")

    @property
    def shards(self) -> str:
        """Their folder."""
        return f"{self.corpus}-{self.family}"

    @property
    def config(self) -> RunConfig:
        """The settings of its run."""
        return api.configure(self.preset, settings=self.settings)

    @property
    def clips(self) -> int:
        """Of the training set, as printed."""
        return round(float(self.sizes[0][:-1]) * THOUSANDS[self.sizes[0][-1]])

    @property
    def prepared(self) -> int:
        """Clips that are prepared, at most: of all lists, where those of the set are known."""
        return LISTED.get(self.corpus, self.clips)

    @property
    def epoch(self) -> int:
        """Clips that are trained on in an epoch."""
        return self.config.train.epoch_samples or self.clips


AVID, CMA = ("Cross-AVID",), ("AVID+CMA",)
PLANS = (
    Plan(
        title="AVID on Kinetics-400",
        preset="avid-kinetics",
        layout="kinetics-400",
        sizes=("240K",),
        methods=AVID,
    ),
    Plan(
        title="CMA on Kinetics-400",
        preset="cma-kinetics",
        layout="kinetics-400",
        sizes=("240K",),
        start="avid-kinetics",
        methods=CMA,
    ),
    Plan(
        title="AVID on AudioSet",
        preset="avid-audioset",
        layout="audioset",
        sizes=("1.8M",),
        methods=AVID,
    ),
    Plan(
        title="CMA on AudioSet",
        preset="cma-audioset",
        layout="audioset",
        sizes=("1.8M",),
        start="avid-audioset",
        methods=CMA,
    ),
    Plan(
        title="CM-ACC on Kinetics-Sound",
        preset="cm-acc-kinetics-sound",
        layout="kinetics-sound",
        sizes=("22K", "14K"),
        root="kinetics-400",
    ),
    Plan(
        title="CM-ACC on Kinetics-700",
        preset="cm-acc-kinetics700",
        layout="kinetics-700",
        sizes=("240K",),
        settings=("train.epoch_samples=240000",),
    ),
    Plan(
        title="CM-ACC on 240,000 clips of AudioSet",
        preset="cm-acc-audioset240k",
        layout="audioset",
        sizes=("240K",),
        options=" --draw 240000 --seed 0",
    ),
    Plan(
        title="CM-ACC on AudioSet",
        preset="cm-acc-audioset",
        layout="audioset",
        sizes=("1.8M",),
        architectures=("3D-ResNet18", "ResNet-18", ""),
    ),
    Plan(
        title="CM-ACC on AudioSet, R(2+1)D-18",
        preset="cm-acc-audioset-r2plus1d",
        layout="audioset",
        sizes=("1.8M",),
        architectures=("R(2+1)D-18",),
    ),
)

ANALYSIS, ANALYSIS_OF_CMA = "avid-analysis", "cma-analysis"
SOUND, MANY = "cm-acc-kinetics-sound", "cm-acc-kinetics700"
ABLATIONS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("avid-cma table 1", "Cross-AVID", ANALYSIS, ()),
    (
        "avid-cma table 1",
        "Self-AVID",
        ANALYSIS,
        (
            "method.video_to_audio=0",
            "method.audio_to_video=0",
            "method.video_to_video=1",
            "method.audio_to_audio=1",
        ),
    ),
    (
        "avid-cma table 1",
        "Joint-AVID",
        ANALYSIS,
        ("method.video_to_video=1", "method.audio_to_audio=1"),
    ),
    ("avid-cma figure 4, table 5", "CMA", ANALYSIS_OF_CMA, ()),
    *(
        ("avid-cma figure 4", title, ANALYSIS_OF_CMA, (f"method.agreement={rule}",))
        for title, rule in (("AV exp.", "either"), ("video exp.", "video"), ("audio exp.", "audio"))
    ),
    ("cm-acc table 1", "SMoCo", SOUND, ("method.name=smoco",)),
    ("cm-acc table 1", "XMoCo without fcl", SOUND, ("method.name=xmoco", "head.fcl=false")),
    ("cm-acc table 1", "XMoCo", SOUND, ("method.name=xmoco",)),
    ("cm-acc table 1", "CM-ACC without fcl", SOUND, ("head.fcl=false",)),
    ("cm-acc table 2", "feature embedding", SOUND, ("method.name=feature",)),
    *(
        (
            "cm-acc table 3",
            f"{title}, M = {batch}",
            MANY,
            (f"method.name={name}", f"train.batch={batch}", "train.epoch_samples=240000"),
        )
        for title, name in (("random", "random-pool"), ("OHEM", "ohem"), ("active", "cm-acc"))
        for batch in (32, 64, 128)
    ),
    ("cm-acc table 6", "UCF-101", "cm-acc-ucf101", ()),
)
"""Table or figure, its arm, the preset of its run and what it changes."""

TASKS = {
    "avid": (
        ("kinetics-probe-224", "video", "kinetics-400-avid"),
        ("ucf-101-8", "video", "ucf-101.parquet"),
        ("ucf-101-32", "video", "ucf-101.parquet"),
        ("hmdb-51-8", "video", "hmdb-51.parquet"),
        ("hmdb-51-32", "video", "hmdb-51.parquet"),
        ("esc-50-svm", "audio", "esc-50.parquet"),
        ("dcase-2014-svm", "audio", "dcase-2014.parquet"),
    ),
    "cm-acc": (
        ("ucf-101-32", "video", "ucf-101.parquet"),
        ("hmdb-51-32", "video", "hmdb-51.parquet"),
        ("esc-50-finetune", "audio", "esc-50.parquet"),
    ),
}
"""Protocol, modality and corpus of the evaluations."""
MEASURED_ON = ("ucf-101", "hmdb-51", "esc-50", "dcase-2014")
FOLDS = {"ucf-101.parquet": 3, "hmdb-51.parquet": 3, "esc-50.parquet": 5}
OWN_INPUT = " video.fps=10"
"""CM-ACC's frames are further apart than those of the protocols, which are AVID's."""


DIFFERENCES: Mapping[str, tuple[str, ...]] = {
    "What differs from AVID and CMA as published": (
        "Losses are the equations of the paper. Its published code scales them (AVID by ½, CMA by "
        "¼), so learning rates act differently there.",
        "“Epochs” are those of the paper. In the published code an epoch of Kinetics sees ten "
        "clips of a film and one of AudioSet five, so that they are ten and five times as long; "
        "CMA on AudioSet has a batch of 160 and a learning rate of 1e-4 there.",
        "CMA's negatives leave out the clip itself and its positives; the published code leaves "
        "out the positives alone. 128 positives are found and 32 drawn, as the paper says; the "
        "published code finds and uses 32.",
        "`Z̄` is the mean over the first batch (`method.partition=first`), and equal on all "
        "processes. A row that comes several times in a batch is updated once, towards the mean.",
        "The duration of sound varies (1.4 to 2.8 s), as the paper says, but not in the published "
        "code. Spectrograms have windows of 20 ms in 512 points; the published code's windows are "
        "longer.",
        "The probe's rate is that of the paper's table 8, since the published setting names none; "
        "fine-tuning has neither dropout nor a warming up of the classifier.",
    ),
    "What differs from CM-ACC as published": (
        "The paper gives no number of epochs: 200 (Kinetics-Sound), 300 (UCF-101), 100 and 50 are "
        "ours.",
        "Its tables 1 to 3 are of the first split, of which the mean of all is no measure: "
        "`--folds all` gives the mean, `data.fold=1` the first.",
        "Embeddings are L2-normalised in the loss and not in the choice of negatives "
        "(`method.normalise`, `method.choice_normalise`): the paper does not say.",
        "Entries of a query's own film are masked in the dictionary. The paper does not say.",
        "The mel spectrogram's window (400 samples) and hop (160) are ours; the paper names only "
        "the library.",
        "Fine-tuning follows AVID's schedules at 10 frames a second, and ESC-50 a schedule of "
        "ours: the paper gives none.",
        "Kinetics-700 has more clips than the 240,000 that the paper trains on, and it does not "
        "say which: here an epoch is so many of all (`train.epoch_samples`); `data.share` would "
        "keep to the same ones. Kinetics-Sound is 31 classes of Kinetics-400; the paper says 34, "
        "and 22K clips in some tables and 14K in another.",
        "Its tables disagree in places (ESC-50 79.2 and 77.3, 80.2 and 79.2; HMDB-51 66.8 and "
        "67.2): each figure stands with its table.",
    ),
    "What differs from both": (
        "Films have gone from the web since: a download today is smaller than the papers'. The "
        "scan counts what is missing; `earsight compare` names a smaller set.",
        "Prepared films have a short side of at most 256 pixels and 16 frames a second, of which "
        "CM-ACC takes 10; each frame is the one that was shown then.",
        f"Batch norm sees a process's own clips, here a {GPUS}th of the batch, except where keys "
        "are made, whose clips are shuffled among processes. How many the papers had decides "
        "what theirs saw.",
        "These runs have not been made: what was tested at a small size is in "
        "[Results](results.md).",
    ),
}
