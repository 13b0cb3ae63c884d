"""A short rendered drive: exact, smooth, repeatable, and tidy about where it writes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tscm_core.datasets import synthetic_drive
from tscm_core.datasets.drive_lighting import Exposure, Lighting
from tscm_core.datasets.drive_routes import ROUTES, loop_length
from tscm_core.datasets.synthetic_drive import DEMO_SESSIONS, DriveConfig, Lap, plan_session, render_drive
from tscm_core.errors import ConfigError, MissingDependencyError

SHORT = DriveConfig(laps=(Lap(laps=0.06),))


def poses_of(frames):
    return np.array([(frame.x, frame.y, frame.yaw) for frame in frames])


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    pytest.importorskip("vizdoom")
    return list(render_drive(SHORT, tmp_path_factory.mktemp("first")))


def test_frames_have_stamps_poses_and_pictures(frames):
    assert 25 <= len(frames) <= 35
    assert [frame.stamp_ns for frame in frames[:3]] == [0, 66_666_667, 133_333_333]
    for frame in frames:
        assert frame.image.shape == (480, 640, 3)
        assert frame.image.dtype == np.uint8
    assert frames[-1].image.std() > 10


def test_motion_is_smooth_and_follows_the_plan(frames):
    poses = poses_of(frames)
    steps = np.hypot(*np.diff(poses[:, :2], axis=0).T)
    assert steps.max() <= SHORT.speed_mps / SHORT.rate_hz * 1.2
    assert np.degrees(np.abs(np.diff(np.unwrap(poses[:, 2])))).max() <= SHORT.turn_rate_dps / SHORT.rate_hz * 1.2
    planned = plan_session(SHORT).poses[:: SHORT.ticks_per_frame]
    assert np.abs(poses[:, :2] - planned[:, :2]).max() < 0.03
    assert np.abs(np.sin(poses[:, 2] - planned[:, 2])).max() < 0.001


def test_same_config_gives_same_frames_and_nothing_lands_in_the_working_folder(frames, tmp_path, monkeypatch):
    here, scratch = tmp_path / "here", tmp_path / "a scratch folder"
    here.mkdir()
    monkeypatch.chdir(here)
    again = list(render_drive(SHORT, scratch))
    assert list(here.iterdir()) == []
    assert np.array_equal(poses_of(again), poses_of(frames))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(again, frames, strict=True))


def test_shifted_lap_runs_beside_the_first(frames, tmp_path):
    pytest.importorskip("vizdoom")
    shifted = replace(SHORT, laps=(Lap(12.0, 0.3, laps=0.06),))
    second, first = poses_of(render_drive(shifted, tmp_path)), poses_of(frames)
    apart = np.linalg.norm(second[:, None, :2] - first[None, :, :2], axis=2)
    assert apart.min(axis=1)[2:-2] == pytest.approx(0.3, abs=0.08)
    turned = np.degrees(second[:, 2] - first[apart.argmin(axis=1), 2])[2:-2]
    assert turned == pytest.approx(12.0, abs=3.0)


def test_leaving_early_closes_the_game(tmp_path):
    pytest.importorskip("vizdoom")
    drive = render_drive(SHORT, tmp_path)
    next(drive)
    drive.close()


def test_a_wall_in_the_way_is_an_error(tmp_path):
    pytest.importorskip("vizdoom")
    with pytest.raises(ConfigError, match="held up"):
        list(render_drive(DriveConfig(laps=(Lap(lateral_offset_m=6.0),)), tmp_path))


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_plans_are_closed_loops_within_limits(route):
    config = DriveConfig(route=route)
    plan, rate = plan_session(config), config.rate_hz * config.ticks_per_frame
    assert 50 < loop_length(ROUTES[route]) < 120
    first = plan.poses[plan.stretch == 0]
    assert np.hypot(*(first[-1] - first[0])[:2]) < 0.5
    assert np.hypot(*np.diff(plan.poses[:, :2], axis=0).T).max() <= config.speed_mps / rate * 1.01
    assert np.degrees(np.abs(np.diff(plan.poses[:, 2]))).max() <= config.turn_rate_dps / rate * 1.01


def test_demo_drives_long_enough_and_comes_back_another_day():
    seconds = [len(plan_session(one).poses) / one.rate_hz / one.ticks_per_frame for one in DEMO_SESSIONS]
    assert 60 < sum(seconds) < 120
    assert DEMO_SESSIONS[1].start_ns > DEMO_SESSIONS[0].start_ns + seconds[0] * 1e9


def test_lighting_follows_its_formula():
    image = np.full((480, 640, 3), 100, np.uint8)
    lit = Exposure(Lighting(0.8, 1.2, (1.1, 1.0, 0.9)), 0).apply(image, 0)
    expected = 255 * 0.8 * (100 / 255) ** 1.2 * np.array([1.1, 1.0, 0.9])
    assert np.abs(lit[7, 9] - expected).max() <= 0.5
    noisy = Exposure(Lighting(noise=4.0), 3).apply(image, 5)
    assert noisy.mean() == pytest.approx(100, abs=0.1)
    assert noisy.std() == pytest.approx(4.0, abs=0.1)


def test_wrong_settings_and_a_missing_package_are_sentences(monkeypatch):
    with pytest.raises(ConfigError, match="warehouse"):
        DriveConfig(route="nowhere")
    with pytest.raises(ConfigError, match="above zero"):
        DriveConfig(rate_hz=0.0)

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(synthetic_drive, "import_module", absent)
    with pytest.raises(MissingDependencyError, match="pip install vizdoom"):
        next(render_drive(SHORT, Path("unused")))
