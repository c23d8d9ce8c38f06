"""Names in the released AVID-CMA checkpoints and here: only their prefixes differ."""

PREFIXES = {
    "module.video_model.": "video_encoder.",
    "module.audio_model.": "audio_encoder.",
    "module.video_proj.": "video_head.",
    "module.audio_proj.": "audio_head.",
}
"""Prefix of a key in a released checkpoint's ``model`` to its prefix in :class:`Pair`."""


def renamed(key: str) -> str:
    """The key in the state dict of :class:`Pair` for a key of a released checkpoint's ``model``.

    Raises:
        ValueError: the key belongs to none of the four parts.
    """
    for theirs, ours in PREFIXES.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    raise ValueError(
        f"{key!r} is no key of a released AVID-CMA model; "
        f"its keys begin with one of {', '.join(PREFIXES)}"
    )
