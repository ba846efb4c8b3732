"""Stream processors, one folder each, and the engine, HTTP API and commands around them."""

import os

# What libraries would take from the environment as soon as they are imported, and is set for other
# programs: Faust's loop, folder and so on, its fixup for Django, where and how Prometheus'
# client would keep its numbers, and how matplotlib would draw.
_FAUST = (
    "BLOCKING_TIMEOUT", "CONSOLE_PORT", "DATADIR", "DEBUG", "FORCE_BLOCKING_TIMEOUT", "F_WEB_BIND",
    "LOOP", "STRICT", "WEB_PORT", "WEB_TRANSPORT", "WORKDIR",
)  # fmt: skip
FOREIGN = (
    *(f"{prefix}{name}" for prefix in ("FAUST_", "F_") for name in _FAUST), "DEVLOG", "NO_CYTHON",
    "DJANGO_SETTINGS_MODULE", "PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir",
    "PROMETHEUS_DISABLE_CREATED_SERIES", "PROMETHEUS_LEGACY_NAME_VALIDATION", "MPLBACKEND",
    "MATPLOTLIBRC",
)  # fmt: skip
for _name in FOREIGN:
    os.environ.pop(_name, None)
