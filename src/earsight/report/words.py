"""The report's words for what the files abbreviate."""

Fact = tuple[str, str]
"""A name and a value, as text."""

_WORDS = {
    "video": "picture",
    "audio": "sound",
    "video-audio": "picture → sound",
    "audio-video": "sound → picture",
    "video-video": "picture → picture",
    "audio-audio": "sound → sound",
    "retrieve": "retrieval",
    "retrieval": "retrieval",
    "probe": "linear probe",
    "knn": "nearest neighbours",
    "classify": "own classifier",
    "finetune": "fine-tuned",
    "geometry": "geometry of the embedding",
    "median_rank": "median rank",
    "mean_log_rank": "mean log rank",
    "effective_rank": "effective rank",
    "agreement": "agreement",
    "min": "picture and sound",
    "either": "picture or sound",
    "positives": "positives in use",
    "memory": "memory features",
    "unique": "unique categories among chosen negatives",
    "gradient_norm": "gradient norms",
    "pseudo_posterior": "spread of pseudo-posteriors",
    "pretext": "pretext task",
    "mean_inner_product": "mean inner product",
    "mean_log_rank_deviation": "deviation of the mean log rank at random",
    "accuracy_deviation": "deviation of the accuracy",
}


def say(name: str) -> str:
    """A modality, direction, task or metric in words; another name as it is."""
    return _WORDS.get(name, name)


def say_seconds(seconds: float) -> str:
    """A time such as ``2 h 05 min``, ``3 min 20 s`` or ``4.2 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
