"""Backends that run a network and give descriptors."""

import os

# From 1.32 on ONNX Runtime makes a number for the device and a database of events in the user's home, unless it is told
# not to before it is loaded. A robot's owner decides that: what is set already stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
