"""How far a run goes, and how its batches are divided."""

from dataclasses import dataclass, replace

from earsight.config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How far a run goes."""

    steps_per_epoch: int
    steps: int
    micro: int

    @staticmethod
    def of(config: RunConfig, size: int, ranks: int = 1) -> "Plan":
        """The plan for a corpus of ``size`` usable training instances, on so many ranks.

        Raises:
            ValueError: there are fewer instances than clips in a batch, or it cannot be divided.
        """
        train = config.train
        unit = train.accumulate * ranks
        if train.batch % unit:
            nearest = max(1, round(train.batch / unit)) * unit
            raise ValueError(
                f"train.batch: {train.batch} clips cannot be divided among {ranks} processes with "
                f"train.accumulate={train.accumulate}; set train.batch={nearest}"
            )
        samples = train.epoch_samples or size
        if size < 2:
            raise ValueError(
                f"the corpus has {size} usable training instances; give it more, or hold out fewer "
                "(data.holdout)"
            )
        if size < train.batch or samples < train.batch:
            fewest = "train.epoch_samples" if samples < size else "the corpus"
            raise ValueError(
                f"{fewest} has {min(size, samples)} usable training instances, fewer than a batch "
                f"of {train.batch}; set train.batch={max(2, min(size, samples) // 2)} or lower"
            )
        per_epoch = samples // train.batch
        return Plan(
            steps_per_epoch=per_epoch,
            steps=per_epoch * train.epochs,
            micro=train.batch // train.accumulate,
        )


def with_size(config: RunConfig, plan: Plan, rows: int) -> RunConfig:
    """The configuration, with what the method's settings leave to the size of corpus and run.

    The settings of a method may have a function ``for_corpus(rows, batch, steps)``, which returns
    them complete.

    Raises:
        ConfigError: the corpus is too small for them.
    """
    complete = getattr(config.method, "for_corpus", None)
    if complete is None:
        return config
    return replace(config, method=complete(rows=rows, batch=plan.micro, steps=plan.steps))
