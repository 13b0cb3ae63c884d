"""``place_recognition``, the executable of the node."""

from __future__ import annotations

import signal
import sys
import threading


def main() -> None:
    """Run the node until SIGINT or SIGTERM; exit 1 with one sentence if it cannot start."""
    asked_to_stop = _stop_on_signals()
    try:
        import rclpy  # noqa: F401
    except ImportError:
        sys.exit("rclpy is not to be found: source the setup file of a ROS 2 installation, or run `make venv`")
    try:
        import tscm_msgs.srv  # noqa: F401
    except ImportError as error:
        sys.exit(
            f"the messages of tscm are not built ({error}): run `colcon build --base-paths src 'src/*/msg'` in "
            "a workspace, or `colcon build` in a clone, and source install/setup.bash; without ROS: `pip install ./msg`"
        )
    try:
        import tscm_ros.node  # noqa: F401
    except ImportError as error:
        sys.exit(f"Python package {error.name} is not installed: pip install it, see README.md")
    sys.exit(_run(asked_to_stop))


def _run(asked_to_stop: threading.Event) -> int:
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from tscm_core.errors import TscmError
    from tscm_ros.executors import NodeThreads
    from tscm_ros.node import PlaceRecognitionNode

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = threads = None
    try:
        node = PlaceRecognitionNode(asked_to_stop.is_set)
        if asked_to_stop.is_set():
            return 0
        if not node.autostart():
            return 0 if asked_to_stop.is_set() else 1
        threads = NodeThreads(node, node.groups_apart)
        asked_to_stop.wait()
        return 0
    except TscmError as error:
        print(f"tscm cannot start: {error}", file=sys.stderr)
        return 1
    finally:
        if threads is not None:
            threads.stop()
        if node is not None:
            node.release()
        rclpy.try_shutdown()


def _stop_on_signals() -> threading.Event:
    """An event that SIGINT and SIGTERM set, however often they come.

    rclpy's own handlers take the context away at once, and with it the means to finish the image at hand and to say so.
    """
    asked_to_stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_stop.set())
    return asked_to_stop


if __name__ == "__main__":
    main()
