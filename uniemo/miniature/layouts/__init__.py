"""Painted trees in every layout that people have of the five datasets, with the faults of real disks on request."""

from .build import LAYOUT_NAMES, possible_faults, synthesize, synthesize_with_faults
from .faults import FAULTS

__all__ = ["FAULTS", "LAYOUT_NAMES", "possible_faults", "synthesize", "synthesize_with_faults"]
