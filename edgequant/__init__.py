"""Which quantization, prompt and token budget gives the best answers within T seconds?

The names below are the public face; each is imported when it is first used. ``docs/python.md``
shows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgequant.core.version import __version__

if TYPE_CHECKING:
    from edgequant.answers.calibration import load_calibration
    from edgequant.answers.generate import generate
    from edgequant.boards.deploy import deploy
    from edgequant.boards.profile import load_profile
    from edgequant.boards.session import session
    from edgequant.build.build import build as build_target
    from edgequant.core.artefact import Store
    from edgequant.core.errors import EdgequantError
    from edgequant.experiment.file import load_experiment
    from edgequant.experiment.run import Run, load_run
    from edgequant.experiment.sweep import plan_sweep, sweep
    from edgequant.latency.measure import MeasureSettings, measure
    from edgequant.matching.match import match
    from edgequant.models.make import make_models
    from edgequant.models.ready import take_in
    from edgequant.models.variant import Variant


__all__ = [
    "EdgequantError",
    "MeasureSettings",
    "Run",
    "Store",
    "Variant",
    "__version__",
    "build_target",
    "deploy",
    "generate",
    "load_calibration",
    "load_experiment",
    "load_profile",
    "load_run",
    "make_models",
    "match",
    "measure",
    "plan_sweep",
    "session",
    "sweep",
    "take_in",
]

_PLACES = {
    "EdgequantError": ("core.errors", "EdgequantError"),
    "MeasureSettings": ("latency.measure", "MeasureSettings"),
    "Run": ("experiment.run", "Run"),
    "Store": ("core.artefact", "Store"),
    "Variant": ("models.variant", "Variant"),
    "build_target": ("build.build", "build"),
    "deploy": ("boards.deploy", "deploy"),
    "generate": ("answers.generate", "generate"),
    "load_calibration": ("answers.calibration", "load_calibration"),
    "load_experiment": ("experiment.file", "load_experiment"),
    "load_profile": ("boards.profile", "load_profile"),
    "load_run": ("experiment.run", "load_run"),
    "make_models": ("models.make", "make_models"),
    "match": ("matching.match", "match"),
    "measure": ("latency.measure", "measure"),
    "plan_sweep": ("experiment.sweep", "plan_sweep"),
    "session": ("boards.session", "session"),
    "sweep": ("experiment.sweep", "sweep"),
    "take_in": ("models.ready", "take_in"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'edgequant' has no attribute {name!r}")
    import importlib

    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(f"edgequant.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
