"""What is printed where there is no terminal to draw a bar on."""

from earsight.terminal import stage_bar


def test_stages_that_go_on_side_by_side_are_each_named_once(capsys):
    with stage_bar() as show:
        for part in (0.25, 0.5, 0.75):
            show(part, 2, "one")
            show(part, 2, "other")
    assert capsys.readouterr().err.splitlines() == ["stage 1 of 2: one", "stage 1 of 2: other"]
