"""Why a bag cannot be opened, in words that say what to do: readers name the byte that they stumbled over."""

from __future__ import annotations

from pathlib import Path

_MCAP_MAGIC = b"\x89MCAP0\r\n"
_SQLITE_MAGIC = b"SQLite format 3\0"


def reason(path: Path, error: Exception, otherwise: str = "cannot be read") -> str:
    """What is wrong with a bag that could not be opened or read, given what the reader said.

    Args:
        path: the bag: a folder or one file.
        error: of the reader.
        otherwise: what to say before the reader's own words, where nothing better is known.
    """
    if path.suffix == ".bag" and path.is_file():
        return "is a ROS 1 bag: convert it with rosbags-convert"
    if not path.exists():
        return "does not exist"
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        return "has no metadata.yaml: name the .mcap or .db3 file in it, or make one with `ros2 bag reindex`"
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file() and is_cut_off(file):
            name = f": {file.name}" if path.is_dir() else ""
            return f"is cut off{name} (the recording or the copy was not ended): copy it again, or `mcap recover` it"
    return f"{otherwise}: {_first_line(error)}"


def is_cut_off(file: Path) -> bool:
    """Whether an mcap lacks its end, or an SQLite file some of the pages that its header promises."""
    try:
        size = file.stat().st_size
        with file.open("rb") as data:
            head = data.read(100)
            data.seek(max(0, size - len(_MCAP_MAGIC)))
            tail = data.read()
    except OSError:
        return False
    if head.startswith(_MCAP_MAGIC):
        return size <= len(_MCAP_MAGIC) or tail != _MCAP_MAGIC
    if head.startswith(_SQLITE_MAGIC):  # https://www.sqlite.org/fileformat2.html#the_database_header
        page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
        return len(head) < 100 or size < (65536 if page == 1 else page) * pages
    return False


def _first_line(error: Exception) -> str:
    """Parsers print the whole text that they could not parse."""
    return (str(error).splitlines() or [type(error).__name__])[0]
