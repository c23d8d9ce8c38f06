import pytest
import torch

from earsight.training.window import NonFiniteError, Window


def add(window, value, rows, finite=True):
    window.add({"loss": torch.tensor(value)}, torch.tensor(finite), torch.tensor(rows))


def test_a_read_gives_the_means_and_starts_afresh():
    window = Window()
    add(window, 1.0, [0])
    add(window, 4.0, [1])
    assert window.read() == {"loss": 2.5}
    assert window.read() == {}


def test_a_restored_window_goes_on():
    window, restored = Window(), Window()
    add(window, 1.5, [0])
    restored.load(window.state(), torch.device("cpu"))
    for one in (window, restored):
        add(one, 2.0, [1])
    assert restored.read() == window.read() == {"loss": 1.75}


@pytest.mark.parametrize("look", [Window.read, Window.state])
def test_a_skipped_update_names_the_clips_of_its_batch(look):
    window = Window(lambda row: f"clip {row}")
    add(window, 1.0, [7])
    add(window, float("nan"), [3, 1], finite=False)
    with pytest.raises(NonFiniteError, match=r"clip 1, clip 3") as caught:
        look(window)
    assert caught.value.rows == [1, 3]


def test_the_remedy_is_one_that_can_be_taken():
    error = NonFiniteError([3], "a.mp4")
    assert "Start a new run" in str(error)
    assert "resume" not in str(error)
