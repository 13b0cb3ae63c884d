"""``tscm map``: what is printed, where, with which exit code; and that its folders are what other commands read."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
from toys import LOOKS_ALONE, ToyDescriber, frame

from tscm_core import cli
from tscm_core.config import Config
from tscm_core.maps.live_map import open_live_map
from tscm_core.maps.map_reader import check
from tscm_core.maps.map_store import MapStore

CONFIG = Config().replace(LOOKS_ALONE | {"candidates.place_keyframes": 1})
LOOKS = [part for name, value in LOOKS_ALONE.items() for part in ("--set", f"{name}={str(value).lower()}")]


@pytest.fixture
def tscm(monkeypatch, capfd):
    """Runs ``tscm`` with arguments as a shell would; gives exit code, standard output and standard error."""
    monkeypatch.setattr("tscm_core.deploy.load.load_describer", lambda config, report: ToyDescriber())

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tscm", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        return code, *capfd.readouterr()

    return run


def save(path, change, model_id="toy", places=range(30), session="drive"):
    """A map of places half a metre apart, each seen once."""
    with open_live_map(path, False, ToyDescriber(model_id), CONFIG, session) as live:
        for number, place in enumerate(places):
            live.observe(frame(number, place, change, x=0.5 * place))
        live.save()
    for beside in path.parent.glob(f"{path.name}.live*"):
        beside.unlink()
    return path


@pytest.fixture
def maps(tmp_path):
    """Two maps of one way, of different days and light, of which one has a name that rich would take for markup."""
    return save(tmp_path / "a.tscm", 0), save(tmp_path / "b[red].tscm", 20)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("command", ["info", "check", "merge", "export"])
def test_help_has_an_example(tscm, command):
    code, out, err = tscm("map", command, "--help")
    assert (code, err) == (0, "")
    assert f"Example: tscm map {command}" in " ".join(out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["merge"],
        ["merge", "a.tscm", "b.tscm"],
        ["merge", "a.tscm", "--out", "c.tscm"],
        ["export", "a.tscm"],
        ["export", "a.tscm", "--out", "x", "--camera-pose", "backward"],
        ["export", "a.tscm", "--out", "x", "--camera-pose", "0,0,0"],
        ["export", "a.tscm", "--out", "x", "--camera-pose", "0,0,nan,0,0,0,1"],
        ["export", "a.tscm", "--out", "x", "--camera-pose", "0,0,0,1,1,1,1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_2(tscm, arguments):
    code, out, err = tscm("map", *arguments)
    assert (code, out) == (2, "")
    assert "Usage" in err
    assert "Traceback" not in err


def test_info_tells_how_many_ids_are_gone(tscm, maps, tmp_path):
    assert "no longer there" not in tscm("map", "info", maps[0])[1]
    with MapStore.open(maps[0], "toy", 64) as store:
        *_, last = store.keyframes()
        store.add(replace(last, id=33), drop=[2, 3, 4, 30])
    code, out, err = tscm("map", "info", maps[0])
    assert (code, err) == (0, "")
    told = "6 of 33 ids are no longer there: given up for map.max_keyframes or map.max_mb, or never stored"
    assert told in " ".join(out.split())
    info = json.loads(tscm("map", "info", maps[0], "--json")[1])
    assert (info["keyframes"], info["ids_gone"], info["sessions"][0]["last_id"]) == (27, 6, 33)


def test_merge_prints_what_it_did(tscm, maps, tmp_path):
    code, out, err = tscm("map", "merge", *maps, "--out", tmp_path / "c.tscm", *LOOKS)
    assert code == 0
    assert check(tmp_path / "c.tscm") == []
    assert f"session drive-2: 30 keyframes of {maps[1]}, ids 31 to 60" in out
    assert "30 ACCEPTED" in out
    assert "... and 10 more: --json lists them all" in out
    assert f"{tmp_path / 'c.tscm'}: 60 keyframes, 0 loops that the maps had, 30 between them" in out
    assert f"session drive of map {maps[1]} is called drive-2 here" in err


def test_merge_json_has_every_loop_with_its_evidence(tscm, maps, tmp_path):
    code, out, _ = tscm("map", "merge", *maps, "--out", tmp_path / "c.tscm", "--json", *LOOKS)
    told = json.loads(out)
    assert code == 0
    assert (told["path"], told["model_id"], told["keyframes"]) == (str(tmp_path / "c.tscm"), "toy", 60)
    assert [(item["source"], item["was"], item["name"]) for item in told["sessions"]] == [
        (str(maps[0]), "drive", "drive"), (str(maps[1]), "drive", "drive-2"),
    ]  # fmt: skip
    assert [(item["keyframe_id"], item["match_id"]) for item in told["loops_between"]] == [
        (id_, id_ - 30) for id_ in range(31, 61)
    ]
    assert told["statuses"] == {"ACCEPTED": 30}
    first = told["loops_between"][0]
    assert first["similarity"] == pytest.approx((1 + 0.2**2) ** -0.5, abs=1e-3)
    assert (first["session"], first["match_session"], first["relative_pose"]) == ("drive-2", "drive", None)


def test_merge_takes_settings_from_a_file_too(tscm, maps, tmp_path):
    (tmp_path / "params.yaml").write_text("candidates:\n  min_similarity: 0.999\n")
    code, out, _ = tscm(
        "map", "merge", *maps, "--out", tmp_path / "c.tscm", "--json", *LOOKS, "--params", tmp_path / "params.yaml"
    )
    assert (code, json.loads(out)["statuses"]) == (0, {"LOW_SIMILARITY": 30})


def sentence(result, *parts):
    code, out, err = result
    lines = [line for line in err.splitlines() if line.strip()]
    assert (code, out, len(lines)) == (1, "", 1), result
    assert lines[0].startswith("error: ")
    for part in map(str, parts):
        assert part in lines[0]


def test_merge_refuses_in_one_sentence(tscm, maps, tmp_path):
    other = save(tmp_path / "other.tscm", 0, "another")
    (tmp_path / "old.tscm").write_bytes(b"old")
    before = names(tmp_path)
    sentence(tscm("map", "merge", maps[1], other, "--out", tmp_path / "c.tscm"), other, "another", "toy", maps[1])
    sentence(tscm("map", "merge", maps[0], maps[0], "--out", tmp_path / "c.tscm"), "is the same file as")
    sentence(tscm("map", "merge", *maps, "--out", tmp_path / "old.tscm"), "exists already", "--overwrite")
    sentence(tscm("map", "merge", *maps, "--out", maps[0], "--overwrite"), "is one of the maps to merge")
    sentence(tscm("map", "merge", *maps, "--out", tmp_path / "c", "--set", "geometry.on=1"), "unknown setting")
    assert names(tmp_path) == before
    assert tscm("map", "merge", *maps, "--out", tmp_path / "old.tscm", "--overwrite", *LOOKS)[0] == 0
    assert check(tmp_path / "old.tscm") == []


def test_export_is_read_by_evaluate_and_replay(tscm, maps, tmp_path):
    tscm("map", "merge", *maps, "--out", tmp_path / "c.tscm", *LOOKS)
    code, out, _ = tscm("map", "export", tmp_path / "c.tscm", "--out", tmp_path / "out", "--odometry-edges", "--json")
    told = json.loads(out)
    assert code == 0
    assert {key: told[key] for key in ("path", "keyframes", "with_pose", "images", "loops", "loop_edges")} == {
        "path": str(tmp_path / "out"), "keyframes": 60, "with_pose": 60, "images": 60, "loops": 30, "loop_edges": 0,
    }  # fmt: skip
    assert told["odometry_edges"] == 58
    folder = tmp_path / "out"
    code, out, _ = tscm("evaluate", "--database", folder, "--queries", folder, "--radius", 1, "--json")
    assert code == 0
    assert json.loads(out)["queries"] == 60
    code, out, _ = tscm("replay", folder, "--out", tmp_path / "replayed", "--json", *LOOKS)
    assert code == 0
    assert (tmp_path / "replayed" / "observations.jsonl").read_text().count("\n") == 60


def test_export_says_what_is_no_edge_and_refuses_in_one_sentence(tscm, maps, tmp_path):
    tscm("map", "merge", *maps, "--out", tmp_path / "c.tscm", *LOOKS)
    given = ("map", "export", tmp_path / "c.tscm", "--out", tmp_path / "out", "--camera-pose")
    code, out, err = tscm(*given, "0,0,1,-0.5,0.5,-0.5,0.5")
    assert code == 0
    assert f"{tmp_path / 'out'}: 60 keyframes, 60 with a pose; 30 loops, 0 of them edges" in out
    assert "30 of 30 loops are in loops.csv alone, not in loops.g2o (no relative pose)" in err
    sentence(tscm(*given, "forward"), "exists already", "--overwrite")
    assert tscm(*given, "same", "--overwrite", "--half")[0] == 0
    sentence(tscm("map", "export", tmp_path / "none.tscm", "--out", tmp_path / "x"), "none.tscm", "does not exist")
    assert not (tmp_path / "x").exists()


def test_check_and_info_say_what_they_did_before(tscm, maps):
    told = json.loads(tscm("map", "info", maps[0], "--json")[1])
    assert (told["keyframes"], told["sessions"][0]["name"], told["path"]) == (30, "drive", str(maps[0]))
    assert tscm("map", "check", maps[1]) == (0, f"map {maps[1]} is whole\n", "")
    damage(maps[1])
    code, out, _ = tscm("map", "check", maps[1], "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)


def damage(path):
    """One bit of the last thumbnail."""
    data = bytearray(path.read_bytes())
    data[data.rindex(b"\xff\xd8\xff") + 30] ^= 1
    path.write_bytes(data)


def test_check_repairs_into_another_file(tscm, maps, tmp_path):
    damage(maps[1])
    damaged = maps[1].read_bytes()
    code, out, err = tscm("map", "check", maps[1], "--repair", "--out", tmp_path / "new.tscm")
    assert code == 0
    assert "29 keyframes kept, 1 lost" in out
    assert f"{maps[1]} is left as it is" in out
    assert "does not match its checksum" in err
    assert check(tmp_path / "new.tscm") == []
    code, out, _ = tscm("map", "check", maps[1], "--repair", "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["repaired"]["keyframes_kept"]) == (0, False, 29)
    assert check(told["repaired"]["path"]) == []
    assert maps[1].read_bytes() == damaged
    before = names(tmp_path)
    sentence(tscm("map", "check", maps[1], "--repair"), "exists already")
    assert names(tmp_path) == before


def test_a_repair_of_a_cut_map_claims_to_know_no_more_than_it_does(tscm, maps, tmp_path):
    raw = maps[0].read_bytes()
    pages, left = len(raw) // 4096, 20
    maps[0].write_bytes(raw[: left * 4096])
    code, out, _ = tscm("map", "check", maps[0], "--repair")
    said = " ".join(out.split())
    assert code == 0
    assert f"{pages - left} of the {pages} pages that {maps[0]} should have are cut off" in said
    assert "cannot be counted" in said
    assert " 0 lost" not in said


def test_where_nothing_can_be_counted_any_more_no_number_is_claimed(tscm, maps):
    raw = maps[0].read_bytes()
    maps[0].write_bytes(b"T" + raw[1:])
    code, out, _ = tscm("map", "check", maps[0], "--repair")
    said = " ".join(out.split())
    assert code == 0
    assert "30 keyframes kept, none known to be lost" in said
    assert " 0 lost" not in said


@pytest.mark.parametrize("damaged", [True, False])
def test_whoever_reads_a_damaged_map_is_told_of_the_repair(tscm, maps, tmp_path, damaged):
    maps[0].write_bytes(maps[0].read_bytes()[:-8192] if damaged else b"no map at all" * 999)
    command = f"`tscm map check {maps[0]} --repair` writes what is whole in it to another map"
    for asked in (
        ("map", "info", maps[0]),
        ("map", "export", maps[0], "--out", tmp_path / "exported"),
        ("map", "merge", maps[1], maps[0], "--out", tmp_path / "out.tscm"),
    ):
        code, out, err = tscm(*asked)
        assert (code, out) == (1, "")
        assert (command in " ".join(err.split())) == damaged
    code, out, err = tscm("map", "check", maps[0])
    assert (code, out) == (1, "")
    assert (command in " ".join(err.split())) == damaged
    code, out, err = tscm("map", "check", maps[0], "--repair")
    assert (code, "--repair" in err) == (0 if damaged else 1, False)


def test_a_whole_map_is_not_repaired(tscm, maps, tmp_path):
    before = names(tmp_path)
    assert tscm("map", "check", maps[0], "--repair") == (0, f"map {maps[0]} is whole\n", "")
    assert json.loads(tscm("map", "check", maps[0], "--repair", "--json")[1])["repaired"] is None
    code, out, err = tscm("map", "check", maps[0], "--out", tmp_path / "x")
    assert (code, out) == (2, "")
    assert "--repair" in err
    assert names(tmp_path) == before
