"""The rendered corpus: determinism, real files, and strikes that are seen when they are heard."""

import csv
from collections import Counter

import av
import numpy as np
import pytest

from earsight.corpus.demo import render_demo
from earsight.corpus.demo_pictures import render_pictures
from earsight.corpus.demo_scene import DURATION, FPS, MATERIALS, RATE, SHAPES, plan_scene
from earsight.corpus.demo_sounds import render_sound


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_corpus_is_the_same_whatever_the_number_of_workers(tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        render_demo(tmp_path / name, clips=20, held_out=3, seed=5, workers=workers)
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert len(one) == 24
    assert one == two
    assert len(set(one.values())) == 24


def test_more_clips_change_none_of_the_others(tmp_path):
    render_demo(tmp_path / "few", clips=3, held_out=2, seed=5, workers=1)
    render_demo(tmp_path / "more", clips=5, held_out=3, seed=5, workers=1)
    few, more = files(tmp_path / "few"), files(tmp_path / "more")
    assert all(more[name] == content for name, content in few.items() if name != "labels.csv")


def test_labels_name_every_file_and_are_balanced(media):
    with (media / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == {
        str(p.relative_to(media)) for p in media.rglob("*.mp4")
    }
    assert all(row["path"].startswith(row["split"] + "/") for row in rows)
    pairs = Counter((row["shape"], row["material"]) for row in rows[:30])
    assert set(pairs) == {(s, m) for s in SHAPES for m in MATERIALS}
    assert set(pairs.values()) == {1}


def test_files_hold_h264_and_aac_of_the_right_length(media):
    for path in sorted(media.rglob("*.mp4"))[:5]:
        with av.open(str(path)) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert video.codec_context.name == "h264"
            assert audio.codec_context.name == "aac"
            assert audio.rate == RATE
            assert sum(1 for _ in container.decode(video)) == round(DURATION * FPS)
            assert float(audio.duration * audio.time_base) == pytest.approx(DURATION, abs=0.1)


def test_a_corpus_is_never_written_over_another(tmp_path):
    render_demo(tmp_path, clips=1, held_out=0, seed=0, workers=1)
    with pytest.raises(ValueError, match="already"):
        render_demo(tmp_path, clips=1, held_out=0, seed=0, workers=1)


def test_the_loudest_rise_of_a_quiet_clip_is_at_a_strike():
    """Where the background is quiet and nothing else sounds, onsets are the strikes alone."""
    checked = 0
    for index in range(300):
        scene = plan_scene(1, index)
        if scene.stray_sounds or scene.noise_db > -35:
            continue
        sound = render_sound(scene).astype(np.float64)
        window = RATE // 100
        energy = np.sqrt((sound[: len(sound) // window * window].reshape(-1, window) ** 2).mean(1))
        rise = np.diff(energy)
        heard = (np.argmax(rise) + 1) / 100
        assert min(abs(heard - strike.time) for strike in scene.strikes) < 1 / FPS, index
        checked += 1
    assert checked >= 10


def test_pictures_change_most_near_a_strike_and_sounds_match_their_clip():
    changes = []
    for index in range(40):
        scene = plan_scene(2, index)
        pictures = render_pictures(scene).astype(np.float64)
        moved = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))
        near = np.zeros(len(moved), bool)
        for strike in scene.strikes:
            frame = round(strike.time * FPS)
            near[max(0, frame - 2) : frame + 3] = True
        if near.any() and not near.all():
            changes.append(moved[near].mean() / moved[~near].mean())
    assert np.mean(changes) > 1.1
