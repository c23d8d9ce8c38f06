"""av-digits: splits, balance, determinism, and a glyph that swells in its speaker's ink."""

import colorsys
import csv
import inspect
import json
import wave
from collections import Counter
from dataclasses import replace

import av
import numpy as np
import pytest

from earsight import api, cli
from earsight.corpus.av_digits import CLIPS, COLUMNS, HELD_OUT, README, render_av_digits
from earsight.corpus.av_digits_pictures import SIZE, SWELL, glyph_cover, render_pictures
from earsight.corpus.av_digits_plan import plan_clips
from earsight.corpus.av_digits_sounds import (
    DURATION,
    FRAMES,
    RATE,
    SAMPLES,
    loudness,
    render_sound,
    render_speech,
)
from earsight.corpus.av_digits_source import find_recordings, handwritten, read_recording
from earsight.corpus.manifest import read

SPEAKERS = ("ann", "bob", "cyd")
EACH = 5
SIXTEEN_BITS = 2**15


def write_wave(path, samples, rate=8000, channels=1, width=2):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes((samples * (SIXTEEN_BITS - 1)).astype("<i2").tobytes())


def word(digit, speaker, index, seconds=0.4):
    """A tone that rises and falls: one pitch per digit, one overtone per speaker."""
    time = np.arange(round(8000 * (seconds + 0.02 * index))) / 8000
    pitch = 200 + 60 * digit
    tone = np.sin(2 * np.pi * pitch * time)
    tone += 0.5 * np.sin(2 * np.pi * pitch * (2 + SPEAKERS.index(speaker)) * time)
    return 0.3 * tone * np.sin(np.pi * time / time[-1]) ** 2


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A small stand-in for the data set: the repository's root, with its folder of recordings."""
    root = tmp_path_factory.mktemp("spoken")
    folder = root / "recordings"
    folder.mkdir()
    for digit in range(10):
        for speaker in SPEAKERS:
            for index in range(EACH):
                write_wave(folder / f"{digit}_{speaker}_{index}.wav", word(digit, speaker, index))
    return root


@pytest.fixture(scope="module")
def made(spoken, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "digits"
    render_av_digits(spoken, folder, clips=20, held_out=10, seed=3, workers=0)
    return folder


def change(clip, loud):
    """``(T, H, W)`` how far each pixel is from the background, and the frames."""
    frames = render_pictures(clip, loud).astype(np.float64)
    empty = render_pictures(replace(clip, glyph=np.zeros_like(clip.glyph)), loud)
    return np.abs(frames - empty).sum(axis=1), frames


@pytest.fixture(scope="module")
def plan(spoken):
    found = find_recordings(spoken)
    return plan_clips(found, clips=120, held_out=30, seed=0)


def labels_of(folder):
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class TestPlan:
    def test_no_recording_and_no_image_stands_in_both_splits(self, plan):
        for key in (lambda clip: clip.recording.path.name, lambda clip: clip.image):
            sides = [{key(c) for path, c in plan if path.startswith(s)} for s in ("train", "test")]
            assert all(sides)
            assert not sides[0] & sides[1]

    def test_the_recordings_of_lowest_index_are_held_out_whatever_the_seed(self, spoken):
        found = find_recordings(spoken)
        for seed in (0, 1):
            jobs = plan_clips(found, clips=120, held_out=30, seed=seed)
            held_out = {c.recording.index for path, c in jobs if path.startswith("test")}
            assert held_out == {0}

    def test_digits_and_speakers_are_balanced_and_recordings_used_once(self, plan):
        train = [clip for path, clip in plan if path.startswith("train")]
        assert set(Counter(c.recording.digit for c in train).values()) == {12}
        assert set(Counter((c.recording.digit, c.recording.speaker) for c in train).values()) == {4}
        assert len({clip.recording.path for clip in train}) == 120
        for at in range(0, 120, 10):
            assert {c.recording.digit for c in train[at : at + 10]} == set(range(10))
        first = Counter((c.recording.digit, c.recording.speaker) for c in train[:30])
        assert set(first.values()) == {1}, "speakers take turns"

    def test_images_show_the_digit_that_is_said(self, plan):
        images, shown = handwritten()
        for _, clip in plan:
            assert shown[clip.image] == clip.recording.digit
            np.testing.assert_array_equal(images[clip.image], clip.glyph)

    def test_images_come_again_only_when_all_have_been_used(self, spoken):
        """A digit has fewer images than 200 clips need; repeated recordings stand in for many."""
        found = find_recordings(spoken)
        many = replace(found, used=tuple(r for r in found.used for _ in range(20)))
        jobs = plan_clips(many, clips=2000, held_out=0, seed=0)
        used = Counter((clip.recording.digit, clip.image) for _, clip in jobs)
        for digit in range(10):
            times = {count for (shown, _), count in used.items() if shown == digit}
            assert times <= {1, 2}
            assert 2 in times

    def test_more_clips_change_none_of_the_others(self, spoken, plan):
        few = plan_clips(find_recordings(spoken), clips=20, held_out=10, seed=0)
        more = dict(plan)
        for path, clip in few:
            assert clip.recording == more[path].recording
            assert (clip.image, clip.gain, clip.hues) == (
                more[path].image,
                more[path].gain,
                more[path].hues,
            )

    def test_another_seed_makes_another_corpus(self, spoken, plan):
        other = plan_clips(find_recordings(spoken), clips=120, held_out=30, seed=1)
        same = [a.image == b.image for (_, a), (_, b) in zip(plan, other, strict=True)]
        assert np.mean(same) < 0.2


class TestClip:
    def test_a_glyph_swells_while_its_digit_is_spoken(self, plan):
        """Ink area over time follows the energy of the sound, noise included."""
        found = []
        for _, clip in plan[:12]:
            speech = render_speech(clip)
            sound = render_sound(clip, speech).astype(np.float64)
            heard = np.sqrt((sound.reshape(FRAMES, -1) ** 2).mean(axis=1))
            ink, _ = change(clip, loudness(speech))
            area = (ink > 0.4 * ink.max()).sum(axis=(1, 2))
            found.append(np.corrcoef(area, heard)[0, 1])
            quiet, loud = area[heard < 0.1 * heard.max()], area[heard > 0.7 * heard.max()]
            assert loud.mean() > 1.15 * quiet.mean()
        assert np.median(found) > 0.8

    def test_louder_clips_swell_more(self, plan):
        """And by the share that is documented: the area grows by its square."""
        _, clip = plan[0]
        for gain in (0.5, 0.9):
            loud = np.arange(FRAMES) % 2.0
            ink, _ = change(replace(clip, gain=gain), loud)
            inside = slice(FRAMES // 4, None)
            area = np.sum(ink, axis=(1, 2))[inside]
            grown = np.median(area[loud[inside] == 1]) / np.median(area[loud[inside] == 0])
            assert grown == pytest.approx((1 + SWELL * gain) ** 2, rel=0.08)

    def test_the_peak_of_the_speech_is_the_gain(self, plan):
        for _, clip in plan[:10]:
            speech = render_speech(clip)
            assert speech.shape == (SAMPLES,)
            assert np.abs(speech).max() == pytest.approx(clip.gain)
            assert loudness(speech).max() == 1

    def test_a_word_is_said_two_or_three_times_at_even_distances(self, plan):
        times = Counter()
        for _, clip in plan[:40]:
            speech = render_speech(clip)
            for count in (2, 3):
                parts = speech.reshape(count, -1)
                times[count] += bool((parts == parts[0]).all())
        assert times[2] + times[3] == 40
        assert min(times.values()) > 5

    @pytest.mark.parametrize(("seconds", "count"), [(1.2, 2), (2.5, 2)])
    def test_a_long_recording_is_said_twice_and_cut_where_it_must(
        self, plan, tmp_path, seconds, count
    ):
        path = tmp_path / "0_ann_0.wav"
        write_wave(path, word(0, "ann", 0, seconds))
        for _, clip in plan[:6]:
            long = replace(clip, recording=replace(clip.recording, path=path))
            speech = render_speech(long)
            parts = speech.reshape(count, -1)
            np.testing.assert_array_equal(parts[0], parts[1])
            assert np.abs(speech).max() == pytest.approx(clip.gain)

    def test_a_speaker_has_a_hue_of_their_own(self, plan):
        seen = {}
        for _, clip in plan[:24]:
            away, frames = change(clip, np.zeros(FRAMES))
            ink = np.median(frames.transpose(0, 2, 3, 1)[away > np.percentile(away, 99.5)], axis=0)
            hue, _, _ = colorsys.rgb_to_hsv(*(ink / 255))
            seen.setdefault(clip.recording.speaker, []).append(hue)
        assert sorted(seen) == list(SPEAKERS)
        for number, speaker in enumerate(SPEAKERS):
            away = (np.array(seen[speaker]) - number / 3 + 0.5) % 1 - 0.5
            assert np.abs(away).max() < 0.5 * 0.5 / 3 + 0.02, speaker
            assert np.ptp(away) > 0.03, "hues of one speaker vary"

    def test_a_glyph_is_the_image_enlarged(self):
        """Upright, eight pixels a cell: the middle of each cell has the ink of the image."""
        images, _ = handwritten()
        centre, scale = np.full((1, 2), SIZE / 2), np.full(1, 8.0)
        cover = glyph_cover(images[0], centre, scale, 0.0)[0]
        middles = cover[4::8, 4::8]
        assert np.abs(middles - images[0]).max() < 0.15
        turned = glyph_cover(images[0], centre, scale, np.pi / 2)[0]
        np.testing.assert_allclose(turned, np.rot90(cover, -1), atol=1e-4)

    def test_a_glyph_stays_in_the_picture_and_moves(self, plan):
        for _, clip in plan[:20]:
            away, frames = change(clip, np.zeros(FRAMES))
            area = (away > 30).sum(axis=(1, 2))
            assert area.min() > 0.8 * area.max()
            assert np.abs(np.diff(frames, axis=0)).max(axis=(1, 2, 3)).min() > 10


class TestCorpus:
    def test_labels_name_every_file(self, made):
        rows = labels_of(made)
        assert tuple(rows[0]) == COLUMNS
        assert Counter(row["split"] for row in rows) == {"train": 20, "test": 10}
        assert {row["path"] for row in rows} == {p for p in contents(made) if p.endswith(".mp4")}
        for row in rows:
            assert row["path"].startswith(f"{row['split']}/")
            assert row["recording"].startswith(f"{row['digit']}_{row['speaker']}_")

    def test_the_licence_of_the_sources_is_named(self, made):
        text = (made / README).read_text()
        assert "CC BY-SA 4.0" in text
        assert "Free Spoken Digit Dataset" in text
        assert "Optical Recognition of Handwritten Digits" in text

    def test_files_hold_h264_and_aac_of_the_right_length(self, made):
        for path in sorted(made.rglob("*.mp4"))[:5]:
            with av.open(str(path)) as container:
                video, audio = container.streams.video[0], container.streams.audio[0]
                assert video.codec_context.name == "h264"
                assert (video.width, video.height) == (SIZE, SIZE)
                assert audio.codec_context.name == "aac"
                assert audio.rate == RATE
                assert sum(1 for _ in container.decode(video)) == FRAMES
                assert float(audio.duration * audio.time_base) == pytest.approx(DURATION, abs=0.1)

    def test_a_scan_finds_every_clip_usable_and_groups_by_image(self, made, tmp_path):
        output = tmp_path / "digits.parquet"
        labels = made / "labels.csv"
        report = api.scan([str(made)], output, labels=labels, group_by="image", workers=0)
        assert report.statuses == {"ok": 30}
        assert not report.unmatched
        assert not report.skipped
        assert {"digit", "speaker"} <= set(report.labels)
        assert len(read(output)) == 30

    def test_a_corpus_is_the_same_whatever_the_number_of_workers(self, spoken, made, tmp_path):
        render_av_digits(spoken, tmp_path / "two", clips=20, held_out=10, seed=3, workers=2)
        assert contents(tmp_path / "two") == contents(made)

    def test_progress_is_told(self, spoken, tmp_path):
        told = []
        render_av_digits(
            spoken / "recordings",
            tmp_path / "out",
            clips=20,
            held_out=0,
            workers=0,
            progress=lambda done, of: told.append((done, of)),
        )
        assert told == [(16, 20), (20, 20)]


class TestSource:
    def test_samples_are_those_of_the_file(self, tmp_path):
        samples = np.array([0, 0.5, -0.5])
        write_wave(tmp_path / "a.wav", samples)
        got, rate = read_recording(tmp_path / "a.wav")
        assert rate == 8000
        np.testing.assert_allclose(got, samples, atol=1e-4)

    def test_what_does_not_fit_is_left_out_and_named(self, spoken, tmp_path):
        folder = tmp_path / "recordings"
        folder.mkdir()
        good = (spoken / "recordings" / "7_bob_2.wav").read_bytes()
        (folder / "7_bob_2.wav").write_bytes(good)
        (folder / "seven_bob_2.wav").write_bytes(good)
        (folder / "7_bob_2.mp3").write_bytes(good)
        (folder / ".hidden").write_bytes(b"")
        (folder / "1_bob_0.wav").write_bytes(b"RIFF")
        write_wave(folder / "1_bob_1.wav", np.zeros(4000))
        write_wave(folder / "1_bob_2.wav", np.ones(10) / 2)
        write_wave(folder / "1_bob_3.wav", np.ones(4000) / 2, channels=2)
        found = find_recordings(tmp_path)
        assert [r.path.name for r in found.used] == ["7_bob_2.wav"]
        reasons = dict(found.left_out)
        assert set(reasons) == {
            "seven_bob_2.wav",
            "7_bob_2.mp3",
            "1_bob_0.wav",
            "1_bob_1.wav",
            "1_bob_2.wav",
            "1_bob_3.wav",
        }
        assert "{digit}_{speaker}_{index}.wav" in reasons["seven_bob_2.wav"]
        assert "cannot be read" in reasons["1_bob_0.wav"]
        assert reasons["1_bob_1.wav"] == "is silent"
        assert "shorter" in reasons["1_bob_2.wav"]
        assert "2 channels" in reasons["1_bob_3.wav"]


class TestCommand:
    def run(self, capsys, *arguments):
        with pytest.raises(SystemExit) as left:
            cli.main(["corpus", "av-digits", *map(str, arguments), "--workers", "0"])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    def test_it_says_what_was_made_and_what_to_do_next(self, spoken, tmp_path, capsys):
        out = tmp_path / "my digits"
        (spoken / "recordings" / "notes.txt").write_text("not a recording")
        try:
            code, text, _ = self.run(
                capsys, "--recordings", spoken, "-o", out, "--clips", 10, "--held-out", 10
            )
        finally:
            (spoken / "recordings" / "notes.txt").unlink()
        assert code == 0
        assert "1 files of the recordings' folder were left out" in text
        assert "notes.txt" in text
        assert "10 clips to train on and 10 held out, of 3 speakers" in text
        assert text.splitlines()[-1].startswith(f"next: earsight scan '{out}' --labels")
        assert "--group-by image -o" in text

    def test_json(self, spoken, tmp_path, capsys):
        code, text, _ = self.run(
            capsys, "--recordings", spoken, "-o", tmp_path / "d", "--clips=10", "--held-out=0",
            "--json",
        )  # fmt: skip
        tree = json.loads(text)
        assert code == 0
        assert (tree["clips"], tree["held_out"], tree["recordings"]) == (10, 0, 150)
        assert tree["speakers"] == list(SPEAKERS)
        assert tree["left_out"] == []
        assert tree["next"].startswith("earsight scan")

    def test_its_numbers_of_clips_are_the_librarys(self, tmp_path):
        command = cli.Corpus(name="av-digits", recordings=tmp_path, output=tmp_path)
        # Left out, the library's are taken, which the help tells.
        assert (command.clips, command.held_out) == (None, None)
        help_text = inspect.getsource(type(command))
        assert f"default: {CLIPS}, or" in help_text
        assert f"default: {HELD_OUT}, or" in help_text

    def test_too_few_recordings(self, spoken, tmp_path, capsys):
        code, _, text = self.run(capsys, "--recordings", spoken, "-o", tmp_path / "d")
        assert code == 2
        assert "train: digit 0 has 12 of 200" in text
        assert "test: digit 9 has 3 of 50" in text
        assert "--clips 120 and --held-out 30" in text
        assert not (tmp_path / "d").exists()

    def test_a_folder_without_recordings(self, tmp_path, capsys):
        (tmp_path / "song.wav").write_bytes(b"")
        code, _, text = self.run(capsys, "--recordings", tmp_path, "-o", tmp_path / "d")
        assert code == 2
        assert "holds no recording (1 other files, such as song.wav" in text
        assert "git clone" in text

    def test_a_folder_that_is_not_there(self, tmp_path, capsys):
        code, _, text = self.run(capsys, "--recordings", tmp_path / "none", "-o", tmp_path / "d")
        assert code == 2
        assert "is no folder" in text

    def test_an_output_that_exists(self, spoken, tmp_path, capsys):
        (tmp_path / "keep.txt").write_text("mine")
        code, _, text = self.run(capsys, "--recordings", spoken, "-o", tmp_path)
        assert code == 2
        assert "exists already" in text
        assert contents(tmp_path) == {"keep.txt": b"mine"}
