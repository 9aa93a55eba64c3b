"""jaxtal: weakly supervised temporal action localization on JAX.

    import jaxtal

    config = jaxtal.get_config("co2net_demo")
    result = jaxtal.train(config, "runs/demo")
    detections = result.model().predict("features/")
    print(jaxtal.evaluate("annotations.json", detections, "thumos14"))

Names are imported on first use: `import jaxtal` is fast, and data sets, evaluation and localization
work without JAX. docs/reference/glossary.md defines the terms and shape letters of the docstrings.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtal import methods
    from jaxtal.api import TrainResult as TrainResult
    from jaxtal.api import analyze_errors as analyze_errors
    from jaxtal.api import evaluate as evaluate
    from jaxtal.api import localize as localize
    from jaxtal.api import train as train
    from jaxtal.config import get_config as get_config
    from jaxtal.data.dataset import Dataset as Dataset
    from jaxtal.data.dataset import TimeGrid as TimeGrid
    from jaxtal.data.dataset import Video as Video
    from jaxtal.data.detections import Detections as Detections
    from jaxtal.data.layouts import load_dataset as load_dataset
    from jaxtal.data.synthetic import generate_dataset as generate_dataset
    from jaxtal.errors import CheckpointError as CheckpointError
    from jaxtal.errors import ConfigError as ConfigError
    from jaxtal.errors import DataError as DataError
    from jaxtal.errors import JaxtalError as JaxtalError
    from jaxtal.errors import NonFiniteError as NonFiniteError
    from jaxtal.evaluation import protocols
    from jaxtal.evaluation.detection_map import Evaluation as Evaluation
    from jaxtal.evaluation.error_analysis import ErrorAnalysis as ErrorAnalysis
    from jaxtal.inference.model import Model as Model
    from jaxtal.inference.model import load_model as load_model
    from jaxtal.nn import losses
    from jaxtal.visualization import plot

__version__ = "0.1.0"

# Public name -> (module, name in the module; "" for the module itself).
_LAZY = {
    "load_dataset": ("jaxtal.data.layouts", "load_dataset"),
    "generate_dataset": ("jaxtal.data.synthetic", "generate_dataset"),
    "Dataset": ("jaxtal.data.dataset", "Dataset"),
    "Video": ("jaxtal.data.dataset", "Video"),
    "TimeGrid": ("jaxtal.data.dataset", "TimeGrid"),
    "Detections": ("jaxtal.data.detections", "Detections"),
    "get_config": ("jaxtal.config", "get_config"),
    "train": ("jaxtal.api", "train"),
    "TrainResult": ("jaxtal.api", "TrainResult"),
    "load_model": ("jaxtal.inference.model", "load_model"),
    "Model": ("jaxtal.inference.model", "Model"),
    "evaluate": ("jaxtal.api", "evaluate"),
    "Evaluation": ("jaxtal.evaluation.detection_map", "Evaluation"),
    "analyze_errors": ("jaxtal.api", "analyze_errors"),
    "ErrorAnalysis": ("jaxtal.evaluation.error_analysis", "ErrorAnalysis"),
    "localize": ("jaxtal.api", "localize"),
    "JaxtalError": ("jaxtal.errors", "JaxtalError"),
    "ConfigError": ("jaxtal.errors", "ConfigError"),
    "DataError": ("jaxtal.errors", "DataError"),
    "CheckpointError": ("jaxtal.errors", "CheckpointError"),
    "NonFiniteError": ("jaxtal.errors", "NonFiniteError"),
    "methods": ("jaxtal.methods", ""),
    "protocols": ("jaxtal.evaluation.protocols", ""),
    "plot": ("jaxtal.visualization.plot", ""),
    "losses": ("jaxtal.nn.losses", ""),
}


__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Dataset",
    "Detections",
    "ErrorAnalysis",
    "Evaluation",
    "JaxtalError",
    "Model",
    "NonFiniteError",
    "TimeGrid",
    "TrainResult",
    "Video",
    "__version__",
    "analyze_errors",
    "evaluate",
    "generate_dataset",
    "get_config",
    "load_dataset",
    "load_model",
    "localize",
    "losses",
    "methods",
    "plot",
    "protocols",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = importlib.import_module(module)
    if attribute:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
