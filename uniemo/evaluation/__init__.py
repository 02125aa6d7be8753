"""Generated images against real ones, from files to a result that another laboratory can repeat."""

from uniemo.evaluation.comparison import Comparison, Settings, prepare
from uniemo.evaluation.folders import ImageSet, read_images
from uniemo.evaluation.networks import NetworkSet, load_set
from uniemo.evaluation.result import as_result, read_result, write_result
from uniemo.evaluation.run import Evaluation, evaluate, measure

__all__ = [
    "Comparison",
    "Evaluation",
    "ImageSet",
    "NetworkSet",
    "Settings",
    "as_result",
    "evaluate",
    "load_set",
    "measure",
    "prepare",
    "read_images",
    "read_result",
    "write_result",
]
