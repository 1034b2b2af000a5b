"""Settings of libraries that read them once, when they are first imported. Other processes of tests inherit them."""

import os

# No test that runs by default needs the hub: it would be asked for models that do not exist, again and again.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tiny tensors: threads only get in each other's way, and several processes of tests share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
