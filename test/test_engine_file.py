"""Engine files: what was written comes back; what is cut, changed, another's or for something else never does."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from engines import KEY, OTHER, PROBE, engine, with_other
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tscm_core.deploy.engine_file import EngineKey, StaleEngine, inspect, read_engine, read_info, write_engine
from tscm_core.errors import DeployError

PAYLOAD = bytes(range(200))
MAGIC = b"tscm engine 1\n"


@pytest.fixture
def path(tmp_path):
    write_engine(tmp_path / "a.engine", engine(), PAYLOAD)
    return tmp_path / "a.engine"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of an engine, and a path for changed ones."""
    folder = tmp_path_factory.mktemp("changed")
    write_engine(folder / "whole.engine", engine(), PAYLOAD)
    return (folder / "whole.engine").read_bytes(), folder / "changed.engine"


def refusal(path, key=KEY):
    with pytest.raises(StaleEngine) as caught:
        read_engine(path, key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused(path, content):
    path.write_bytes(content)
    path.chmod(0o600)
    return refusal(path)


def by_hand(header, payload=b"", magic=MAGIC):
    """A file as the module's docstring describes it, with right checksums."""
    return magic + struct.pack("<I", len(header)) + hashlib.sha256(header).digest() + header + payload


def header_of(content):
    (length,) = struct.unpack_from("<I", content, len(MAGIC))
    return json.loads(content[len(MAGIC) + 36 :][:length])


# ---------------------------------------------------------------------------------------------- what comes back


@pytest.mark.parametrize("payload", [b"", b"x", bytes(100_000)], ids=len)
def test_what_is_written_comes_back(payload, tmp_path):
    write_engine(tmp_path / "a.engine", engine(), payload)
    assert read_engine(tmp_path / "a.engine", KEY) == (engine(), payload)
    assert read_engine(tmp_path / "a.engine") == (engine(), payload)
    assert read_info(tmp_path / "a.engine") == engine()
    assert (tmp_path / "a.engine").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["a.engine"]


def test_numbers_of_numpy_are_written_too(tmp_path):
    write_engine(tmp_path / "a.engine", engine(agreement=np.float32(0.5), build_s=3), b"")
    assert read_info(tmp_path / "a.engine") == engine(agreement=0.5, build_s=3.0)


def test_the_probe_comes_back_as_numbers(path):
    np.testing.assert_array_equal(read_info(path).probe_descriptors(), PROBE)


def test_the_file_is_what_its_docstring_says(path):
    """Read without the module, so that another version of it reads the same."""
    content = path.read_bytes()
    header = header_of(content)
    assert content.startswith(MAGIC)
    assert content.endswith(PAYLOAD)
    assert by_hand(json.dumps(header, sort_keys=True).encode(), PAYLOAD) == content
    assert header["payload"] == {"size": 200, "sha256": hashlib.sha256(PAYLOAD).hexdigest()}
    assert header["engine"]["key"]["device"] == KEY.device


def test_a_payload_is_in_memory_once(tmp_path):
    write_engine(tmp_path / "a.engine", engine(), bytes(8_000_000))
    tracemalloc.start()
    try:
        read_engine(tmp_path / "a.engine", KEY)
        assert tracemalloc.get_traced_memory()[1] < 9_000_000
    finally:
        tracemalloc.stop()


def test_it_is_read_without_pytorch():
    code = "import sys, tscm_core.deploy.engine_cache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------------------------------------- what does not


def spots(content):
    """Every byte of what comes first and last, and every seventh of the long header between."""
    return sorted({*range(60), *range(60, len(content), 7), *range(len(content) - len(PAYLOAD) - 9, len(content))})


def test_every_cut_is_refused(whole):
    content, path = whole
    for length in spots(content):
        said = refused(path, content[:length])
        assert "cut off" in said, (length, said)


def test_every_changed_byte_is_refused(whole):
    content, path = whole
    for place in spots(content):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        refused(path, flipped)
        assert inspect(path).info is None
        assert inspect(path).problem


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_is_refused(data, whole):
    content, path = whole
    begin = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(begin, len(content)))
    changed = content[:begin] + data.draw(st.binary(max_size=300)) + content[end:]
    if changed != content:
        refused(path, changed)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400), magic=st.booleans())
def test_any_other_file_is_refused(content, magic, whole):
    refused(whole[1], MAGIC * magic + content)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
places = st.sampled_from(
    [(), ("engine",), ("payload",), ("engine", "key"), ("payload", "size"), ("payload", "sha256"), ("more",)]
    + [("engine", name) for name in ("dim", "probe", "agreement", "built_at", "build_s", "descriptor_id", "more")]
    + [("engine", "key", name) for name in (*OTHER, "more")]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=places, value=values, drop=st.booleans())
def test_a_header_with_right_checksums_and_odd_fields_is_refused_or_as_it_says(place, value, drop, whole):
    content, path = whole
    header = header_of(content)
    if not place:
        header = value
    else:
        inner = header
        for name in place[:-1]:
            inner = inner[name]
        inner.pop(place[-1], None) if drop else inner.update({place[-1]: value})
    path.write_bytes(by_hand(json.dumps(header).encode(), PAYLOAD))
    path.chmod(0o600)
    try:
        info, payload = read_engine(path)
    except StaleEngine:
        return
    assert payload == PAYLOAD
    assert type(info.key) is EngineKey
    assert all(isinstance(getattr(info.key, name), type(other)) for name, other in OTHER.items())
    assert info.probe_descriptors().shape[1] == info.dim
    if drop or place[-1] == "more":
        assert place in {("engine", "key", "options")} | ({("more",), ("engine", "more"), ("engine", "key", "more")})


def test_a_header_of_a_gigabyte_is_not_read(whole):
    content, path = whole
    assert "damaged or cut off" in refused(path, MAGIC + struct.pack("<I", 2**32 - 1) + content[len(MAGIC) + 4 :])
    tree = header_of(content)
    tree["payload"]["size"] = (1 << 20) - 2**31  # as many bytes as would follow a header of 2 GiB
    huge = json.dumps(tree).encode().ljust(1 << 20)
    said = refused(path, MAGIC + struct.pack("<I", 2**31) + hashlib.sha256(huge).digest() + huge)
    assert "damaged or cut off" in said
    tree["payload"]["size"] = -7
    assert "0 bytes of -7" in refused(path, by_hand(json.dumps(tree).encode()))


def test_another_version_is_named(whole):
    content, path = whole
    assert "not an engine of this version" in refused(path, content.replace(MAGIC, b"tscm engine 2\n"))
    assert "another version of tscm" in refused(path, by_hand(b"[" * 10_000))
    assert "another version of tscm" in refused(path, by_hand(b'{"engine": {}}'))


@pytest.mark.parametrize("field", OTHER)
def test_every_field_of_the_key_counts(field, path):
    said = refusal(path, with_other(field))
    name = {
        "model_id": "model",
        "weights_sha256": "weights",
        "backend_version": "version",
        "input_size": "input size",
        "options": "set of options",
    }
    assert f"its {name.get(field, field)} is " in said
    assert said.count("its ") == 1
    shown = ["320x240", "224x224"] if field == "input_size" else [getattr(KEY, field), OTHER[field]]
    assert all(value in said for value in shown), said
    assert with_other(field).file_name() != KEY.file_name()


def test_all_differences_are_named_at_once(path):
    assert refusal(path, EngineKey(**OTHER)).count("its ") == len(OTHER)
    assert set(OTHER) == {field.name for field in dataclasses.fields(EngineKey)}


def test_a_name_says_what_it_is_and_cannot_leave_the_folder():
    name = KEY.file_name()
    assert name.startswith("efficientnet_lite0-320x240-0123456789ab-onnxruntime-fp32-")
    assert name.endswith(".engine")
    odd = dataclasses.replace(KEY, model_id="../../\0é\n" + "x" * 300, input_size=(64, 48))
    assert "-64x48-" in dataclasses.replace(odd, model_id="a").file_name()
    assert len(odd.file_name()) < 150
    assert not set(odd.file_name()) & set("/\0\n")


# ---------------------------------------------------------------------------------------------- whose it is


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_an_engine_that_others_may_write_is_refused(mode, path):
    path.chmod(mode)
    assert f"writable by other users (mode {mode:o})" in refusal(path)


def test_an_engine_of_another_user_is_refused(path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert f"belongs to user {os.getuid()}, not to {os.getuid() + 1}" in refusal(path)


def test_only_a_regular_file_is_read(path):
    link, pipe = path.with_name("link"), path.with_name("pipe")
    link.symlink_to(path)
    os.mkfifo(pipe)  # opened like a file, it would wait for a writer
    for other in (link, pipe, path.parent, path.with_name("absent")):
        refusal(other)
        assert inspect(other).info is None


# ---------------------------------------------------------------------------------------------- failing to write


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_what_was_there(failing, path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os if failing == "fsync" else type(path), failing, full)
    with pytest.raises(DeployError, match=r"a\.engine cannot be written: No space left on device; make room"):
        write_engine(path, engine(build_s=9.0), b"new")
    assert read_engine(path, KEY) == (engine(), PAYLOAD)
    assert list(path.parent.iterdir()) == [path]


def test_an_absent_folder_is_one_sentence(tmp_path):
    with pytest.raises(DeployError, match="cannot be written: No such file or directory"):
        write_engine(tmp_path / "absent" / "a.engine", engine(), b"")


def test_a_new_engine_takes_the_place_of_the_old(path):
    write_engine(path, engine(build_s=9.0), b"new")
    assert read_engine(path, KEY) == (engine(build_s=9.0), b"new")
