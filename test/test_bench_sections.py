"""The sections themselves, with next to no effort; no time is judged."""

from __future__ import annotations

from importlib import import_module
from itertools import islice, pairwise

import cv2
import numpy as np
import psutil
import pytest
from toys import ToyDescriber

from tscm_core.bench import child, describe, mapping, match, path, scenes, startup, students, verify
from tscm_core.bench.channel import Apart, ProcessError
from tscm_core.bench.child import conclude
from tscm_core.bench.pictures import frames, views
from tscm_core.bench.places import places, queries
from tscm_core.bench.records import DONE, FAILED, Section
from tscm_core.bench.request import Effort, Request, everything
from tscm_core.bench.students import PAPER, Student
from tscm_core.config import Config, ModelConfig
from tscm_core.deploy.engine_cache import EngineCache
from tscm_core.deploy.weights import Weights
from tscm_core.errors import DatasetError, DeployError
from tscm_core.maps.map_reader import MapReader
from tscm_core.recognition.local_features import extract
from tscm_core.recognition.two_view import verify as two_views

TINY = Request(
    Config(),
    Effort(match_sizes=(300,), match_queries=20, map_places=30, map_added=5, verify_seconds=0.0, path_frames=60),
)


def quiet(text):
    assert text


def row_of(section, **tags):
    return next(row for row in section.rows if tags.items() <= dict(row.tags).items())


def test_a_request_survives_the_way_to_another_process(tmp_path):
    request = Request(Config().replace({"model.threads": 3}), everything(), tmp_path)
    assert Request.from_json(request.to_json()) == request
    assert Request.from_json(TINY.to_json()) == TINY


def test_verify_measures_features_geometry_and_pose(monkeypatch):
    monkeypatch.setattr(verify, "_VIEWS", 3)
    section = verify.run(TINY, quiet)
    assert [row.tags["stage"] for row in section.rows] == ["features", "geometry", "relative_pose"]
    assert all(row.figure("time").p95 >= row.figure("time").value > 0 for row in section.rows)
    assert all(row.figure("time").samples >= 1 for row in section.rows)


def test_made_up_views_show_one_rigid_place_and_two_others():
    rule = Config().geometry
    item = views(None, 1)[0]
    query, *others = (extract(frame, rule) for frame in (item.query, *item.places))
    right, *wrong = (two_views(query, other, rule).inlier_count for other in others)
    assert right >= 50
    assert max(wrong) < rule.min_inliers


def test_the_made_up_drive_comes_back_to_where_it_was():
    frames_ = list(scenes.drive(2 * scenes.LAP))
    assert all(later.stamp_ns - one.stamp_ns == scenes.STEP_NS for one, later in pairwise(frames_))
    assert frames_[10].pose == frames_[-11].pose
    assert not np.array_equal(frames_[10].image, frames_[-11].image)
    again = [frame.image for frame in islice(scenes.drive(4 * scenes.LAP, laps=2), 2 * scenes.LAP, None)]
    assert all(np.array_equal(one, frame.image) for one, frame in zip(again, frames_, strict=True))


def test_given_images_are_spread_over_the_drive_and_too_few_are_refused(tmp_path):
    for number in range(10):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((20, 30, 3), 10 * number, np.uint8))
    assert [int(frame.image[0, 0, 0]) for frame in frames(tmp_path, 5)] == [0, 20, 40, 60, 80]
    shown = [(item.places[0], item.query) for item in views(tmp_path, 5)]
    assert [(int(a.image[0, 0, 0]), int(b.image[0, 0, 0])) for a, b in shown] == [
        (n, n + 10) for n in range(0, 100, 20)
    ]
    for number in range(2, 10):
        (tmp_path / f"{number}.png").unlink()
    with pytest.raises(DatasetError, match="2 usable images: give at least 4"):
        frames(tmp_path, 5)
    with pytest.raises(DatasetError, match="1 pairs of usable images: give more"):
        views(tmp_path, 5)


def test_path_tells_stages_in_order_and_the_whole(monkeypatch):
    monkeypatch.setattr(path, "load_describer", lambda config, report: ToyDescriber())
    section = path.run(TINY, quiet)
    stages = [row.tags["stage"] for row in section.rows]
    assert stages[0] in ("keyframe", "describe", "features")
    assert stages[-1] == "all"
    whole = section.rows[-1]
    assert whole.figure("time").samples == TINY.effort.path_frames - path.WARM_UP or whole.figure("time").samples > 10
    assert whole.figure("images a second").value > 0


def test_map_measures_all_and_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    section = mapping.run(TINY, quiet)
    assert row_of(section, what="add").figure("time").samples == TINY.effort.map_added
    for what in ("save", "load", "restore"):
        assert row_of(section, what=what).figure("time").value > 0
    assert row_of(section, what="file").figure("a place").value > 10
    assert "35 places" in section.notes[0]
    assert list(tmp_path.iterdir()) == []


def test_a_made_up_map_is_one_of_the_model_that_is_asked_for(tmp_path):
    path = tmp_path / "map.tscm"
    mapping.made_up_map(path, 7, "some-model", 64, Config())
    with MapReader(path, "some-model", 64) as reader:
        keyframes = list(reader.keyframes())
    assert [keyframe.id for keyframe in keyframes] == list(range(1, 8))
    assert np.allclose([keyframe.descriptor for keyframe in keyframes], next(places(7, 64)), atol=1e-3)
    assert all(len(keyframe.thumbnail_jpeg) > 1000 and len(keyframe.features) > 1000 for keyframe in keyframes)


@pytest.fixture(scope="module")
def matched():
    """The section, as if its 300 places and what is kept for its queries had taken 5 MiB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(match, "_WARM_UP", 10)
        patch.setattr(match, "_SEARCHED_S", 0.0)
        patch.setattr(match, "growth_mib", lambda before, after: 5.0)
        return match.run(TINY, quiet)


def test_match_agrees_with_exact_search_where_it_is_exact(matched):
    found = row_of(matched, places=300)
    assert found.figure("agreement").value == 100.0
    assert found.figure("agreement").samples == 20
    assert any("1,000,000" in note for note in matched.notes)


def test_the_memory_of_a_place_is_without_that_of_the_queries(matched):
    kept = 20 * 3 - 1  # each with both neighbours, the first with one
    memory = row_of(matched, places=300).figure("memory a place").value
    assert memory == pytest.approx((5 * 2**20 - kept * 2048 * 4) / 300 / 1000)


def test_agreement_is_that_of_brute_force():
    rows = np.concatenate(list(places(500, match._DIM, match._SEED)))
    visits = queries(rows[100:140], 3)
    exact = np.array([max(range(500), key=lambda n, visit=visit: float(visit @ rows[n])) for visit in visits])
    assert match.agreement(exact, visits, 500) == 1.0
    wrong = exact.copy()
    wrong[:10] = (exact[:10] + 250) % 500
    wrong[10] = -1
    assert match.agreement(wrong, visits, 500) == pytest.approx(1 - 11 / 40)


def test_agreement_takes_what_is_0_01_less_similar_for_missed_and_what_float16_rounds_away_for_found(monkeypatch):
    similar = np.array([1.0, 0.99, 0.99999, 0.999])
    rows = np.stack([similar, np.sqrt(1 - similar**2)], axis=1).astype(np.float32)
    monkeypatch.setattr(match, "places", lambda count, dim, seed: np.split(rows, 2))
    visit = np.array([[1.0, 0.0]], np.float32)
    assert [match.agreement(np.array([found]), visit, 4) for found in range(4)] == [1.0, 0.0, 1.0, 0.0]


class Refusing:
    """A backend that refuses for a reason, or for none."""

    def __init__(self, name, reason):
        self.name, self.reason = name, reason

    def refusal(self, target, *, build):
        return self.reason

    def version(self):
        return "1.0"

    def options(self, target):
        return ""


@pytest.fixture
def obstacle(monkeypatch, tmp_path):
    """What is in the way of a backend that refuses for ``reason`` and of which engines are ``kept``."""

    def asked(name, reason="", kept=False, everything=False):
        backend, weights = Refusing(name, reason), Weights("", "toy", (4, 3), "0" * 64)
        monkeypatch.setattr(students, "find_backend", lambda name: backend)
        monkeypatch.setattr(students, "find_weights", lambda name: weights)
        config = ModelConfig(backend=name, device="cpu", engine_cache=str(tmp_path))
        for _, target in students.choices(config, weights):
            path = EngineCache(tmp_path).path(students.engine_key(backend, target, weights))
            path.touch() if kept else path.unlink(missing_ok=True)
        return students.obstacle(config, everything=everything)

    return asked


@pytest.mark.parametrize("name", ["onnxruntime", "inductor", "tensorrt"])
@pytest.mark.parametrize("everything", [False, True])
def test_a_backend_that_refuses_is_left_out_for_its_reason(obstacle, name, everything):
    assert obstacle(name, "there is no GPU", kept=True, everything=everything) == "there is no GPU"


@pytest.mark.parametrize("name", ["inductor", "tensorrt"])
def test_what_takes_long_to_compile_is_left_out_unless_it_is_kept_or_all_is_asked_for(obstacle, name):
    assert obstacle(name) == "not compiled yet, which takes long (tscm compile, or --all)"
    assert (obstacle(name, kept=True), obstacle(name, everything=True)) == ("", "")


def test_what_is_quick_to_compile_or_not_compiled_at_all_is_worth_a_try(obstacle):
    assert (obstacle("onnxruntime"), obstacle("eager", "not asked")) == ("", "")


class Worker:
    """A backend that takes known times and whose descriptors are off by a known angle."""

    def __init__(self, ms, angle=0.0):
        self.ms, self.angle = ms, angle

    def ask(self, message, timeout_s):
        if "round" in message:
            return {"ms": [self.ms] * message["round"]}
        rows = np.tile([np.cos(self.angle), np.sin(self.angle)], (message["probe"], 1)).astype("<f4")
        return {"shape": rows.shape, "rows": describe.base64.b64encode(rows.tobytes()).decode()}


@pytest.fixture
def workers(monkeypatch):
    """Two students for which eager and inductor run, onnxruntime refuses when started, and tensorrt before that."""
    speeds = {"eager": (20.0, 0.0), "inductor": (12.0, 0.06)}
    asked = []

    def start(stack, request, say):
        model = request.config.model
        asked.append((model.backend, model.threads))
        if model.backend == "onnxruntime":
            return "it is broken"
        told = {"title": model.backend, "built": False, "model_id": "m", "load_s": 1.0, "memory_mib": None}
        return Worker(*speeds[model.backend]), told

    both = (Student("default", "default student", ModelConfig()), Student(PAPER, "paper's", ModelConfig()))
    monkeypatch.setattr(describe, "students", lambda config, folder: both)
    monkeypatch.setattr(describe, "_start", start)
    monkeypatch.setattr(
        describe, "obstacle", lambda config, everything: "there is no GPU" if config.backend == "tensorrt" else ""
    )
    return asked


def test_describe_compares_with_eager_and_judges_what_auto_takes(workers):
    section = describe.run(TINY, quiet)
    assert [(row.tags["student"], row.tags["backend"], row.tags["threads"]) for row in section.rows] == [
        (student, backend, threads)
        for student in ("default", PAPER)
        for threads in (1, 2)
        for backend in ("eager", "inductor")
    ]
    one = row_of(section, student="default", backend="inductor", threads=1)
    assert one.figure("to eager").value == pytest.approx(0.6)
    assert one.figure("distance").value == pytest.approx(1 - np.cos(0.06), rel=1e-3)
    assert (one.figure("time").met, one.figure("distance").met) == (True, False)
    assert one.figure("memory") is None
    eager = row_of(section, student="default", backend="eager", threads=1)
    assert (eager.figure("time").met, eager.figure("to eager")) == (None, None)
    assert row_of(section, student=PAPER, backend="inductor", threads=1).figure("to eager").met is True
    assert row_of(section, student=PAPER, backend="inductor", threads=2).figure("to eager").met is None


def test_describe_names_what_it_left_out_and_does_not_try_it_again(workers):
    notes = describe.run(TINY, quiet).notes
    assert "tensorrt left out: there is no GPU" in notes
    assert "onnxruntime left out: it is broken" in notes
    assert workers.count(("onnxruntime", 1)) == 1


def test_startup_fills_the_cache_the_first_time(monkeypatch):
    folders = []

    class Process(Worker):
        def __init__(self, module):
            super().__init__(1.0)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def ask(self, message, timeout_s):
            folders.append(message["request"]["config"]["model.engine_cache"])
            return {"title": "toy"}

    monkeypatch.setattr(startup, "Apart", Process)
    section = startup.run(TINY, quiet)
    assert [row.tags["cache"] for row in section.rows] == ["empty", "filled"]
    assert len(set(folders)) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeployError("no backend"), "no backend"),
        (ModuleNotFoundError("x", name="vizdoom"), "Python package vizdoom is not installed"),
        (ZeroDivisionError("oops"), "internal error, please report: ZeroDivisionError('oops')"),
    ],
)
def test_a_section_that_fails_says_why_in_one_sentence(error, reason):
    def run(request, say):
        raise error

    section = conclude("verify", run, TINY, quiet)
    assert (section.state, section.reason) == (FAILED, reason)


def test_a_section_that_is_done_knows_how_long_it_took():
    section = conclude("verify", lambda request, say: Section("x", "X"), TINY, quiet)
    assert (section.name, section.state) == ("verify", DONE)
    assert section.seconds >= 0


CHILD = """
import sys
from tscm_core.bench.channel import Channel
channel = Channel()
print("noise of a library")
while (message := channel.receive()) is not None:
    if message.get("die"):
        sys.exit("words before the end")
    if not message.get("silent"):
        channel.send({"twice": 2 * message["number"]})
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "chatty_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "chatty_child"


def test_processes_talk_undisturbed_by_what_is_printed(module):
    with Apart(module) as process:
        assert process.ask({"number": 21}, 20.0) == {"twice": 42}
        assert process.ask({"number": 4}, 20.0) == {"twice": 8}
    assert process.process.returncode is not None


def test_a_process_that_ends_or_is_silent_is_said_to(module):
    with Apart(module) as process, pytest.raises(ProcessError, match="exit code 1: words before the end"):
        process.ask({"die": True}, 20.0)
    with Apart(module) as process, pytest.raises(ProcessError, match="said nothing for 0 s"):
        process.ask({"silent": True}, 0.2)
    assert process.process.poll() is not None


TIDY = """
import os, signal, subprocess, sys, time
from pathlib import Path
from tscm_core.bench.channel import Channel
signal.signal(signal.SIGTERM, signal.default_int_handler)
channel = Channel()
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
other = subprocess.Popen([sys.executable, "-c", stubborn])
time.sleep(0.5)
try:
    channel.send({"other": other.pid})
    time.sleep(60)
finally:
    Path(os.environ["TIDIED"]).touch()
"""


def test_a_process_is_ended_with_all_that_it_started_and_may_tidy_up(tmp_path, monkeypatch):
    (tmp_path / "tidy_child.py").write_text(TIDY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TIDIED", str(tmp_path / "tidied"))
    with Apart("tidy_child") as process:
        other = psutil.Process(process.receive(20.0)["other"])
        assert other.is_running()
    assert (tmp_path / "tidied").exists()
    assert psutil.wait_procs([other], timeout=5.0)[1] == []


@pytest.mark.parametrize("name", sorted(child.MODULES))
def test_every_section_of_the_core_has_something_to_run(name):
    assert callable(import_module(child.MODULES[name]).run)
