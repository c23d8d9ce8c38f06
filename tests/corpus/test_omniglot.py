"""Pairs of pictures: the next character by another writer, whole splits, known information."""

import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earsight import api, cli
from earsight.corpus.manifest import read
from earsight.corpus.omniglot import HELD_OUT, PAIRS, information, make_omniglot
from earsight.corpus.omniglot_source import read_alphabets
from earsight.corpus.pairs import read_pairs

SIZES = [5, 4, 3]
REAL = Path(__file__).parents[2] / "../shared/data/omniglot/images.zip"


@pytest.fixture(scope="module")
def made(characters, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "omniglot"
    return make_omniglot(characters, folder, pairs=600, held_out=100, seed=1)


@pytest.fixture(scope="module")
def kept(made):
    return read_pairs(Path(made.folder) / "pairs.npz")


def within(kept):
    """Characters by their place in their alphabet."""
    return kept.character - np.array([0, 5, 9], np.int16)


class TestPairs:
    def test_alphabets_come_by_size(self, made):
        assert dict(made.alphabets) == {"Long": 5, "Middling": 4, "Short": 3}
        assert list(made.alphabets) == ["Long", "Middling", "Short"]

    def test_the_second_shows_the_next_character_cyclically(self, kept):
        first, second = within(kept).transpose(1, 0, 2)
        assert (first >= 0).all()
        assert (first < SIZES).all()
        assert np.array_equal(second, (first + 1) % SIZES)

    def test_characters_are_uniform_and_cells_independent(self, kept):
        first = within(kept)[:, 0]
        for cell, size in enumerate(SIZES):
            share = np.bincount(first[:, cell], minlength=size) / len(first)
            assert np.abs(share - 1 / size).max() < 5 * math.sqrt(1 / size / len(first))
        both = np.bincount(first[:, 0] * 4 + first[:, 1], minlength=20) / len(first)
        assert np.abs(both - 1 / 20).max() < 5 * math.sqrt(1 / 20 / len(first))

    def test_writers_are_independent_and_stand_in_one_split_alone(self, made, kept):
        held_out = read(made.folder).column("split") == "test"
        assert set(kept.writer[~held_out].ravel().tolist()) == {0, 1, 2, 3}
        assert set(kept.writer[held_out].ravel().tolist()) == {4}
        assert (made.writers, made.held_out_writers) == (4, 1)
        first, second = kept.writer[~held_out].transpose(1, 0, 2)
        assert (first == second).mean() == pytest.approx(1 / 4, abs=0.06)
        assert (first[:, 0] == first[:, 1]).mean() == pytest.approx(1 / 4, abs=0.1)

    def test_information_is_the_sum_of_the_logarithms(self, made):
        assert information(SIZES) == pytest.approx([math.log(5), math.log(20), math.log(60)])
        assert made.information == information(SIZES)
        assert "1.6, 3.0, 4.1" in str(made)

    def test_labels_are_the_first_pictures_characters(self, made, kept):
        corpus = read(made.folder)
        assert corpus.label_names == ("cell1", "cell2", "cell3")
        assert corpus.cells == 3
        told = [int(name.removeprefix("character")) - 1 for name in corpus.labels("cell2")]
        assert told == within(kept)[:, 0, 1].tolist()
        assert np.array_equal(corpus.column("key"), kept.key)
        assert corpus.column("split").tolist() == ["train"] * 600 + ["test"] * 100

    def test_more_pairs_change_none_of_the_others(self, characters, made, kept, tmp_path):
        make_omniglot(characters, tmp_path / "more", pairs=700, held_out=50, seed=1)
        more = read_pairs(tmp_path / "more" / "pairs.npz")
        for name in ("key", "character", "writer"):
            before, now = getattr(kept, name), getattr(more, name)
            assert np.array_equal(before[:600], now[:600])
            assert np.array_equal(before[600:650], now[700:])

    @pytest.mark.parametrize("change", [{"seed": 2}, {"writers": 4}])
    def test_other_pairs_have_other_keys(self, characters, kept, tmp_path, change):
        given = {"seed": 1, **change}
        make_omniglot(characters, tmp_path / "other", pairs=600, held_out=100, **given)
        other = read_pairs(tmp_path / "other" / "pairs.npz")
        assert not np.isin(other.key, kept.key).any()

    def test_fewer_writers_leave_the_held_out_ones_alone(self, characters, tmp_path):
        made = make_omniglot(characters, tmp_path / "few", pairs=50, held_out=20, writers=4)
        kept = read_pairs(tmp_path / "few" / "pairs.npz")
        assert (made.writers, made.held_out_writers) == (3, 1)
        assert set(kept.writer.ravel().tolist()) == {0, 1, 2, 3}

    def test_the_licence_of_the_source_is_named(self, made):
        assert "MIT" in (Path(made.folder) / "README.md").read_text()


class TestSource:
    def test_drawings_are_small_with_bright_ink(self, characters):
        found = read_alphabets(characters)
        assert {name: x.shape for name, x in found.drawings.items()} == {
            "Long": (5, 5, 32, 32),
            "Middling": (4, 5, 32, 32),
            "Short": (3, 5, 32, 32),
        }
        drawing = found.drawings["Long"][0, 0]
        assert drawing.dtype == np.uint8
        with zipfile.ZipFile(characters) as file:
            paper = Image.open(file.open("Long/character01/0001_01.png")).convert("L")
        # As much ink, in the same places: Pillow's box filter is the oracle.
        wanted = 255 - np.asarray(paper.resize((32, 32), Image.Resampling.BOX), np.float64)
        assert drawing.mean() == pytest.approx(wanted.mean(), rel=0.05)
        assert np.corrcoef(drawing.ravel(), wanted.ravel())[0, 1] > 0.95

    def test_what_is_no_character_is_left_out_and_named(self, characters, tmp_path):
        path = tmp_path / "more.zip"
        path.write_bytes(characters.read_bytes())
        with zipfile.ZipFile(path, "a") as file:
            file.writestr("README.md", "hello")
        found = read_alphabets(path)
        assert [tuple(one) for one in found.left_out] == [
            ("README.md", "no ALPHABET/characterNN/NNNN_WW.png")
        ]

    def test_a_damaged_drawing_is_missed(self, characters, tmp_path):
        path = tmp_path / "damaged.zip"
        with zipfile.ZipFile(characters) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(
                    name, b"no" if name == "Long/character01/0001_02.png" else old.read(name)
                )
        with pytest.raises(ValueError, match=r"1 characters, such as Long/character01, .*PNG"):
            read_alphabets(path)

    def test_the_real_archive(self):
        if not REAL.exists():
            pytest.skip("Omniglot's pictures are not on this machine")
        found = read_alphabets(REAL)
        assert [len(x) for x in found.drawings.values()] == [47, 42, 40, 26, 24, 24, 22, 17]
        assert {x.shape[1:] for x in found.drawings.values()} == {(20, 32, 32)}
        assert not found.left_out
        sums = information([len(x) for x in found.drawings.values()])
        # Pairs of one and two characters are fewer than those to train on, those of three more.
        assert math.exp(sums[1]) < PAIRS < math.exp(sums[2])


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


class TestCommand:
    def test_it_says_what_was_made_and_what_to_do_next(self, characters, tmp_path, capsys):
        folder = tmp_path / "out"
        few = ("--clips", 40, "--held-out", 10)
        code, out, _ = run(capsys, "corpus", "omniglot", "--images", characters, "-o", folder, *few)
        assert code == 0
        assert "40 pairs to train on, by 4 writers, and 10 held out, by 1 others" in out
        assert "Long 5, Middling 4, Short 3" in out
        assert out.strip().endswith(f"earsight study mutual-information --corpus {folder}")
        assert sorted(path.name for path in folder.iterdir()) == [
            "README.md",
            "corpus.parquet",
            "pairs.npz",
        ]

    def test_json(self, characters, tmp_path, capsys):
        few = ("--clips", 40, "--held-out", 10, "--json")
        given = ("--images", characters, "-o", tmp_path / "out", *few)
        _, out, _ = run(capsys, "corpus", "omniglot", *given)
        made = json.loads(out)
        assert made["alphabets"] == {"Long": 5, "Middling": 4, "Short": 3}
        assert len(made["information"]) == 3

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ((), "images: is missing, of which omniglot is made"),
            (("--images", "none.zip"), "none.zip: cannot be read as an archive"),
            (("--images", "IT", "--recordings", "x"), "recordings: has no effect on omniglot"),
            (("--images", "IT", "--workers", 2), "workers: has no effect on omniglot"),
            (("--images", "IT", "--writers", 9), "writers: must lie between 2 and 5"),
        ],
    )
    def test_what_cannot_be_used(self, characters, tmp_path, capsys, given, told):
        words = [characters if word == "IT" else word for word in given]
        code, _, err = run(capsys, "corpus", "omniglot", "-o", tmp_path / "out", *words)
        assert code == 2
        assert told in err
        assert not (tmp_path / "out").exists()

    def test_an_archive_of_something_else(self, tmp_path, capsys):
        with zipfile.ZipFile(tmp_path / "it.zip", "w") as file:
            file.writestr("a.txt", "hello")
        given = ("--images", tmp_path / "it.zip", "-o", tmp_path / "out")
        code, _, err = run(capsys, "corpus", "omniglot", *given)
        assert code == 2
        assert "holds no characters" in err
        assert "brendenlake" in err

    def test_an_output_that_exists(self, characters, tmp_path, capsys):
        (tmp_path / "file").write_text("mine")
        given = ("--images", characters, "-o", tmp_path)
        code, _, err = run(capsys, "corpus", "omniglot", *given)
        assert code == 2
        assert "exists already" in err

    def test_recordings_are_asked_for(self, tmp_path, capsys):
        code, _, err = run(capsys, "corpus", "av-digits", "-o", tmp_path / "out")
        assert code == 2
        assert "recordings: is missing, of which av-digits is made" in err

    def test_its_numbers_are_the_librarys(self):
        assert (PAIRS, HELD_OUT) == (50_000, 2_000)
        assert api.omniglot.__module__ == "earsight.api.corpora"


def test_a_large_file_is_not_read(characters, tmp_path):
    path = tmp_path / "large.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("A/character01/0001_01.png", bytes(2**21))
    with pytest.raises(ValueError, match="holds no characters"):
        read_alphabets(path)
