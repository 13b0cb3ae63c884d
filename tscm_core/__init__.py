"""Visual place recognition that a robot can carry: the library behind the ROS 2 node ``tscm``.

Nothing here imports ROS. Start reading at :mod:`tscm_core.recognition.loop_detector`.
"""

__version__ = "0.1.0"
