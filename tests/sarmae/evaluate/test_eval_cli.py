"""The command as it is typed: one question about one encoder, and what a wrong word is answered with."""

import sys

import pytest

from sarmae.cli import main
from support.simulated_sets import write_target_chips
from support.small_runs import small_config, train, training_store


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("typed")
    write_target_chips(root / "chips", classes=3, per_class=12, side_px=48)
    config = small_config(training_store(root / "store"), train={"steps": 2})
    train(config, root / "runs/small")
    return root


def typed(monkeypatch, capsys, *words):
    """Exit code, output and errors of `sarmae evaluate ...`."""
    monkeypatch.setattr(sys, "argv", ["sarmae", "evaluate", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return (end.value.code or 0, *capsys.readouterr())


@pytest.mark.campaign
def test_one_question_about_a_run(place, tmp_path, monkeypatch, capsys):
    data, run = f"folders:{place / 'chips'}", f"run:{place / 'runs/small'}"
    sets = ("--set", "seeds=[0]", "--set", "processes=2")
    code, text, errors = typed(monkeypatch, capsys, data, "--encoder", run, "--out", tmp_path / "study", *sets)
    assert (code, errors) == (0, "")
    assert "3 of 3 cells" in text
    assert "chips, balanced accuracy" in text
    table = (tmp_path / "study/summary.md").read_text()
    assert all(name in table for name in (run, "random", "statistics"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("folders:x",), "at least one --encoder"),
        (("--encoder", "pixels"), "Give labelled images"),
        (("folders:x", "--encoder", "resnet50"), "--encoder resnet50: no encoder of that name. Expected run:FOLDER"),
        (("x", "--encoder", "pixels"), "x: found no kind of data in it; expected folders:PATH, store:PATH"),
        (("folders:x", "--config", "ablation"), "give either --config or DATA"),
        (("--config", "ablatoin"), "Known: ablation"),
        (("folders:x", "--encoder", "run:nowhere"), "nowhere/config.toml: there is no such file"),
    ],
)
def test_a_wrong_word_is_reported_in_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, errors = typed(monkeypatch, capsys, *words)
    assert code == 2
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not list(tmp_path.iterdir())
