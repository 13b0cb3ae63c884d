"""The ROS 2 node ``tscm``. All recognition is in :mod:`tscm_core`; here are topics, services and parameters."""
