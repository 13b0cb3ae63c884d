"""The ablation: arms differ in their loss alone, figures are what plain arithmetic says, a killed one goes on."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import training_toys as toys
import yaml
from typer.testing import CliRunner

from tscm_core.checkpoints import load_network
from tscm_core.commands.ablation import train_ablation_command
from tscm_core.datasets.place_sources import open_places
from tscm_core.errors import ConfigError, DatasetError, ModelFileError
from tscm_core.network_header import read_header
from tscm_core.training.ablation import run_ablation
from tscm_core.training.ablation_arms import ARMS, ablation_from, load_ablation
from tscm_core.training.ablation_sets import chosen_by_name, open_sets
from tscm_core.training.ablation_table import Paired, Row, Spread, paired, spread
from tscm_core.training.distillation_loss import LossWeights
from tscm_core.training.feature_cache import describe_images
from tscm_core.training.images import Images
from tscm_core.training.kept_descriptors import describe_once
from tscm_core.training.run import train
from tscm_core.training.settings_file import differences, settings_from
from tscm_core.training.task import DescriptorTask

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (3, 5)
LAPS = "two laps"


def typer_app():
    import typer

    app = typer.Typer()
    app.command("ablation")(train_ablation_command)
    app.command("nothing")(lambda: None)  # with one command alone typer takes no name for it
    return app


def quiet(title, done, total):
    pass


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    toys.register()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drives")
    return [toys.write_drive(folder / f"drive{seed}", seed) for seed in range(2)]


@pytest.fixture(scope="module")
def tree(drives, tmp_path_factory):
    """An ablation of seconds: learn from one drive, judge on the last two shots of each place against the first."""
    out = tmp_path_factory.mktemp("teacher")
    learnt = toys.settings_tree(drives[0], network={"dim": 5}, trainer={"max_epochs": 1})
    train("teacher", settings_from(learnt), out)
    tree = toys.settings_tree(
        drives[0],
        teacher={"file": str(out / "best.safetensors")},
        mining={"by": "teacher", "keep_easy": True, "skip_easy": False},
        trainer={"max_steps": 8, "batch": 4},
        freeze={"trunk": True, "variants": 1},
    )
    judged = {
        "name": LAPS, "about": "Toys.", "kind": "positions", "folder": str(drives[1]), "positive_radius": 10.0,
        "negative_radius": 20.0, "query_images": ["?_1.png", "?_2.png"], "database_images": "?_0.png",
    }  # fmt: skip
    tree["ablation"] = {"arms": ["hard", "all", "relational"], "seeds": list(SEEDS), "evaluate": [judged]}
    return tree


def changed(tree, **section):
    return tree | {"ablation": tree["ablation"] | section}


@pytest.fixture(scope="module")
def finished(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("ablation") / "whole"
    ablation = replace(ablation_from(tree), text="# the settings\n")
    return out, run_ablation(ablation, out, command="tscm train ablation --config toy.yaml")


def figures(out):
    """All that an ablation found, less what a clock says."""
    found = json.loads((out / "ablation.json").read_text())
    for row in found["rows"]:
        del row["images_per_s"]
    found["settings"]["freeze"]["cache_folder"] = ""
    return found


# ------------------------------------------------------------------------------------------------- arithmetic


def test_spread_and_paired_difference_in_plain_numbers():
    ours, base = [0.50, 0.60, 0.80], [0.40, 0.55, 0.60]
    assert spread(ours) == Spread(pytest.approx(1.9 / 3), pytest.approx(math.sqrt(0.14 / 3 / 2)))
    found = paired(ours, base)  # 0.10, 0.05, 0.20: mean 7/60
    mean = 0.35 / 3
    deviation = math.sqrt(((0.10 - mean) ** 2 + (0.05 - mean) ** 2 + (0.20 - mean) ** 2) / 2)
    assert found == (pytest.approx(mean), pytest.approx(deviation), pytest.approx(deviation / math.sqrt(3)))
    assert found.beyond_spread is True
    assert paired([0.5, 0.7], [0.6, 0.6]).beyond_spread is False
    assert paired([0.5], [0.2]) == Paired(pytest.approx(0.3), None, None)
    assert paired([0.5], [0.2]).beyond_spread is None


def test_a_row_in_json_has_its_difference_to_the_base():
    base = Row("hard", {"x": {1: [0.2, 0.4]}}, ["a", "b"], ARMS["hard"], [8, 8], [100.0, 300.0])
    row = Row("all", {"x": {1: [0.5, 0.5]}}, ["c", "d"], ARMS["all"], [8, 8], [])
    found = row.to_json(base)
    assert found["minus_hard"]["x"]["1"]["mean"] == pytest.approx(0.2)
    assert found["minus_hard"]["x"]["1"]["standard_error"] == pytest.approx(0.1)
    assert found["recall"]["x"]["1"]["by_seed"] == [0.5, 0.5]
    assert found["loss"] == "L_hard + L_soft + L_cm"
    assert base.to_json(base)["minus_hard"] is None
    assert base.to_json(base)["images_per_s"] == 200.0


# ------------------------------------------------------------------------------------------------- arms


def test_the_arms_are_those_of_the_issue():
    def weights(hard=1.0, soft=0.0, cross=0.0, **rivals):
        return LossWeights(hard, soft, cross, **rivals)

    assert {name: (arm.weights, arm.form) for name, arm in ARMS.items()} == {
        "hard": (weights(), "paper"),
        "hard+soft": (weights(soft=1.0), "paper"),
        "hard+cross": (weights(cross=1.0), "paper"),
        "all": (weights(soft=1.0, cross=1.0), "paper"),
        "released": (weights(cross=1.0), "released"),
        "feature": (weights(feature=1.0), "paper"),
        "relational": (weights(relation_distance=1.0, relation_angle=2.0), "paper"),
    }
    assert ARMS["relational"].loss == "L_hard + L_distance + 2 L_angle"
    assert ARMS["released"].loss == "L_hard' + L_released"


def test_runs_differ_in_nothing_but_the_loss(tree):
    ablation = ablation_from(changed(tree, arms=list(ARMS)))
    runs = {arm.name: ablation.of_run(arm, 3) for arm in ablation.arms}
    for name, run in runs.items():
        assert all(where.startswith(("loss.weights.", "loss.form")) for where in differences(runs["hard"], run)), name
        assert (run.trainer.max_steps, run.trainer.patience, run.data.val) == (8, 0, ())
    assert differences(runs["all"], ablation.of_run(ARMS["all"], 4)) == ["trainer.seed"]
    best = ablation_from(changed(tree, select="best"))
    assert best.of_run(ARMS["all"], 3).data.val == best.training.data.val


def test_weights_may_be_given_but_an_arm_stays_what_it_is(tree):
    ablation = ablation_from(changed(tree, arms={"hard": None, "relational": {"relation_angle": 0.5}}))
    assert [arm.loss for arm in ablation.arms] == ["L_hard", "L_hard + L_distance + 0.5 L_angle"]
    assert ablation.chosen(["relational", "all"], [7]).arms == (ablation.arms[1], ARMS["all"])


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"arms": ["hard", "softer"]}, "no arm softer; the arms are hard, hard+soft, hard+cross, all, released"),
        ({"arms": []}, "names no arm"),
        ({"arms": {"hard": {"cross": 1.0}}}, "ablation.arms.hard: it has no term cross, only hard"),
        ({"arms": {"all": {"cross": 0}}}, "ablation.arms.all.cross must be a number above 0, not 0"),
        ({"arms": {"all": 3}}, "ablation.arms.all must hold weights by term"),
        ({"seeds": [1, 1]}, "ablation.seeds must be different whole numbers"),
        ({"seeds": []}, "ablation.seeds must be different whole numbers"),
        ({"select": "first"}, "ablation.select must be one of last, best"),
        ({"selekt": "last"}, "unknown setting ablation.selekt: did you mean ablation.select?"),
        ({"evaluate": []}, "ablation.evaluate must be a list of sources"),
    ],
)
def test_unfit_settings_are_named(section, sentence, tree):
    with pytest.raises(ConfigError) as caught:
        ablation_from(changed(tree, **section))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("teacher", {"file": ""}, "teacher.file names no teacher"),
        ("trainer", {"max_steps": 0}, "trainer.max_steps must be given"),
        ("trainer", {"devices": 2}, "an ablation runs in one process"),
        ("optim", {"lrr": 1.0}, "unknown setting optim.lrr"),
    ],
)
def test_a_comparison_that_is_not_fair_is_refused(name, change, sentence, tree):
    with pytest.raises(ConfigError, match=sentence):
        ablation_from(tree | {name: tree.get(name, {}) | change})


def test_the_shipped_settings_are_fit():
    ablation = load_ablation(ROOT / "config" / "ablation.yaml")
    assert [arm.name for arm in ablation.arms] == list(ARMS)
    assert ablation.seeds == (0, 1, 2)
    held_out, corridor = ablation.evaluate
    assert set(held_out["areas"]) < set(ablation.training.data.train[0]["areas_not"])
    assert corridor["positive_radius"] == 2.0


# ------------------------------------------------------------------------------------------------- what is judged


def test_images_are_chosen_by_name(drives):
    places = open_places({"kind": "positions", "folder": str(drives[1]), "positive_radius": 10.0})
    chosen = chosen_by_name(places, "[0-3]_[12].png", "?_0.png")
    assert [chosen.images[i].name for i in chosen.database] == [f"{place}_0.png" for place in range(8)]
    assert [chosen.images[i].name for i in chosen.queries] == [f"{k}_{shot}.png" for k in range(4) for shot in (1, 2)]
    for i in chosen.queries:
        assert [chosen.images[j].name for j in chosen.positives(int(i))] == [f"{chosen.images[i].name[0]}_0.png"]
    with pytest.raises(DatasetError, match=r"query_images nothing.jpg fits none of its 24 images"):
        chosen_by_name(places, ["0_1.png", "nothing.jpg"], None)
    with pytest.raises(ConfigError, match="database_images must be a pattern"):
        chosen_by_name(places, None, 5)


def test_the_corridor_is_judged_lap_against_lap():
    from shared_data import shared

    source = dict(load_ablation(ROOT / "config" / "ablation.yaml").evaluate[1])
    places = open_places({key: source[key] for key in ("kind", "positive_radius")}
                         | {"folder": str(shared("corridor_two_laps"))})  # fmt: skip
    laps = chosen_by_name(places, source["query_images"], source["database_images"])
    assert sorted(laps.images[i].name for i in laps.queries) == [f"{k:04}.jpg" for k in range(40, 80)]
    assert sorted(laps.images[i].name for i in laps.database) == [f"{k:04}.jpg" for k in range(40)]


def test_what_is_measured_on_is_not_learnt_from(tree, drives):
    judged = tree["ablation"]["evaluate"][0]
    for where, section in (
        ("data.train", {"evaluate": [judged | {"folder": str(drives[0])}]}),
        ("data.val", {"select": "best", "evaluate": [judged]}),
    ):
        other = {"kind": "positions", "folder": str(drives[1])}
        data = tree["data"] | {"val": [other]}
        with pytest.raises(ConfigError, match=f"24 of 24 images of two laps are also in {where}, first 0_0.png"):
            open_sets(ablation_from(changed(tree | {"data": data}, **section)))
    with pytest.raises(ConfigError, match="two sources have the same name"):
        open_sets(ablation_from(changed(tree, evaluate=[judged, judged])))
    with pytest.raises(ConfigError, match="a source needs a name"):
        open_sets(ablation_from(changed(tree, evaluate=[{"kind": "positions"}])))
    lost = judged | {"query_images": "0_0.png", "database_images": "7_0.png"}
    with pytest.raises(DatasetError, match="two laps: none of its 1 queries has a right image"):
        open_sets(ablation_from(changed(tree, evaluate=[lost])))


# ------------------------------------------------------------------------------------------------- runs


def test_recall_is_that_of_a_plain_loop(finished, drives):
    out, _ = finished
    images = {shot: [drives[1] / f"{place}_{shot}.png" for place in range(8)] for shot in range(3)}
    rows = {row["name"]: row for row in figures(out)["rows"]}
    for name in ("start", "hard", "all", "relational"):
        for number, seed in enumerate(SEEDS):
            file = out / name / f"seed{seed}" / "best.safetensors"
            network = load_network(file)
            device = torch.device("cpu")
            first, *asked = (describe_images(network, Images(images[s], network.input_size), device, quiet)
                             for s in range(3))  # fmt: skip
            ranks = [np.argsort(-(queries @ first.T), axis=1) for queries in asked]
            for k in (1, 5):
                hits = [place in rank[place, :k] for rank in ranks for place in range(8)]
                assert rows[name]["recall"][LAPS][str(k)]["by_seed"][number] == statistics.fmean(hits)
            assert rows[name]["model_ids"][number] == read_header(file).model_id


def test_the_start_is_what_every_arm_starts_from(finished, tree, tmp_path):
    _, report = finished
    still = ablation_from(tree | {"optim": {"lr": 0.0}})
    for name in ("hard", "all"):
        result = train("student", still.of_run(ARMS[name], SEEDS[0]), tmp_path / name)
        assert result["model_id"] == report.rows[0].model_ids[0]
    networks = [model for row in report.rows for model in row.model_ids]
    assert len(set(networks)) == len(networks) == 2 + 3 * 2 + 1


def test_all_arms_take_the_same_steps_from_the_same_features(finished):
    out, report = finished
    assert [list(row.steps) for row in report.rows] == [[0, 0], [8, 8], [8, 8], [8, 8], []]
    assert len(list((out / "features").glob("*-0.npy"))) == len(SEEDS)  # a toy trunk is drawn from the seed


def test_the_page_holds_what_was_found(finished):
    out, report = finished
    page = (out / "ablation.md").read_text()
    hard, full = (next(row for row in report.rows if row.name == name) for name in ("hard", "all"))
    ours, base = ([100 * value for value in row.recall[LAPS][1]] for row in (full, hard))
    apart = [a - b for a, b in zip(ours, base, strict=True)]
    at_five = [100 * value for value in full.recall[LAPS][5]]
    error, wide = statistics.stdev(apart) / math.sqrt(2), abs(statistics.fmean(apart)) > statistics.stdev(apart)
    assert (
        f"| `all` | {statistics.fmean(ours):.1f} ± {statistics.stdev(ours):.1f} | {statistics.fmean(at_five):.1f} ± "
        f"{statistics.stdev(at_five):.1f} | {statistics.fmean(apart):+.1f} (standard error {error:.1f}) | "
        f"{'yes' if wide else 'no'} |"
    ) in page
    for text in (
        "| `relational` | L_hard + L_distance + 2 L_angle | 8 |",
        "Toys. Queries are the images `?_1.png, ?_2.png`, the database is `?_0.png`; right is what is within 10 m. "
        "16 queries, a database of 8 images; one query is 6.2 points. "
        "Neither its images nor its areas are learnt from.",
        "tscm train ablation --config toy.yaml",
        "```yaml\n# the settings\n```",
        "Seeds: 3, 5.",
        full.model_ids[0],
    ):
        assert text in page
    assert "L_released" not in page
    for table in page.split("\n\n"):
        assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) <= 1, table


def test_the_best_is_told_by_other_images_and_all_arms_see_the_same_tuples(tree, tmp_path, monkeypatch):
    seen, whole = [], DescriptorTask.training_step

    def step(self, batch, batch_idx):
        seen.append(batch.rows.tolist())
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(DescriptorTask, "training_step", step)
    ablation = ablation_from(changed(tree, select="best", arms=["hard", "all"], seeds=[2]))
    run_ablation(ablation, tmp_path / "ablation", command="")
    start, hard, full = seen[:1], seen[1:9], seen[9:]
    assert len(start) == 1
    assert hard == full
    metrics = read_header(tmp_path / "ablation" / "all" / "seed2" / "best.safetensors").metrics
    assert metrics["recall@1"] >= 0
    assert metrics["steps"] <= 8
    assert "with the best recall@1 on the validation images" in (tmp_path / "ablation" / "ablation.md").read_text()


def test_a_teacher_that_is_missing_is_said_before_anything_is_written(tree, tmp_path):
    ablation = ablation_from(tree | {"teacher": {"file": str(tmp_path / "none.safetensors")}})
    with pytest.raises(ModelFileError, match=r"none\.safetensors"):
        run_ablation(ablation, tmp_path / "ablation", command="")
    assert list(tmp_path.iterdir()) == []


class KilledError(Exception):
    pass


def test_a_killed_ablation_goes_on_and_repeats_nothing(finished, tree, tmp_path, monkeypatch):
    steps, whole = [], DescriptorTask.training_step

    def step(self, batch, batch_idx):
        if len(steps) == 14:  # in the second arm: one step of the start, eight of the first
            raise KilledError
        steps.append(batch_idx)
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(DescriptorTask, "training_step", step)
    ablation, out = ablation_from(tree), tmp_path / "ablation"
    with pytest.raises(KilledError):
        run_ablation(ablation, out, command="tscm train ablation --config toy.yaml")
    monkeypatch.setattr(DescriptorTask, "training_step", lambda *args: steps.append(0) or whole(*args))
    with pytest.raises(ConfigError, match="holds an ablation: --resume goes on with it"):
        run_ablation(ablation, out, command="")
    run_ablation(ablation, out, command="tscm train ablation --config toy.yaml", resume=True)
    assert figures(out) == figures(finished[0])
    in_all, last_kept = 2 * (1 + 3 * 8), 4  # checkpoints come every two steps, the arm was killed in its sixth
    assert len(steps) == in_all + (14 - 9 - last_kept)
    (out / "ablation.json").unlink()
    run_ablation(ablation, out, command="", resume=True)
    assert len(steps) == in_all + (14 - 9 - last_kept)
    other = ablation_from(tree | {"teacher": {"file": str(out / "hard" / f"seed{SEEDS[0]}" / "best.safetensors")}})
    with pytest.raises(ConfigError, match=r"has the teacher toy-24x18-\w+, but .* now holds toy-24x18-\w+: begin anew"):
        run_ablation(other, out, command="", resume=True)
    with pytest.raises(ConfigError, match=r"has other settings: optim\.lr differ"):
        run_ablation(ablation_from(tree | {"optim": {"lr": 0.5}}), out, command="", resume=True)


def test_the_command(tree, tmp_path):
    config = toys.write_settings(tmp_path / "toy.yaml", tree)
    arguments = ["ablation", "--config", str(config), "--out", str(tmp_path / "out"), "--arms", "hard,all"]
    result = CliRunner().invoke(typer_app(), [*arguments, "--seeds", "4", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [row["name"] for row in found["rows"]] == ["start", "hard", "all", "teacher"]
    assert found["command"].startswith("tscm train ablation --config ")
    assert found["command"].endswith("--seeds 4 --arms hard,all")
    assert yaml.safe_load(config.read_text())["trainer"]["max_steps"] == found["settings"]["trainer"]["max_steps"]
    page = (tmp_path / "out" / "ablation.md").read_text()
    assert "one seed: nothing is known of spread" in page
    assert "±" not in page
    unknown = CliRunner().invoke(typer_app(), [*arguments[:-1], "hart"])
    assert "there is no arm hart; the arms are hard, hard+soft" in str(unknown.exception)
    assert CliRunner().invoke(typer_app(), [*arguments, "--seeds", "one"]).exit_code == 2
    missing = CliRunner().invoke(typer_app(), ["ablation", "--config", str(tmp_path / "no.yaml")])
    assert "no.yaml cannot be read: No such file" in str(missing.exception)


def test_descriptors_are_described_once(drives, tmp_path):
    network = toys.ToyNetwork().eval()
    images = Images(sorted(drives[0].glob("*.png")), network.input_size)
    cpu, seen = torch.device("cpu"), []

    def note(title, done, total):
        seen.append(done)

    first = describe_once(network, images, cpu, tmp_path / "kept", note, "Toys")
    described = len(seen)
    assert described > 0
    assert np.array_equal(describe_once(network, images, cpu, tmp_path / "kept", note, "Toys"), first)
    assert len(seen) == described
    with torch.no_grad():
        network.linear.weight.mul_(-1)
    other = describe_once(network, images, cpu, tmp_path / "kept", note, "Toys")
    assert not np.allclose(other, first)
    assert np.array_equal(other, describe_once(network, images, cpu, None, note, "Toys"))
