"""Published checkpoints in, other programs' formats out; import from here or from the modules, which load torch."""

from uniemo.convert.coefficients import read_coefficients, write_coefficients
from uniemo.convert.export import export_diffusers, export_safetensors
from uniemo.convert.released import ReleasedFile, ReleasedSizes, load_released, read_released
from uniemo.convert.stages import convert_folder, convert_released

__all__ = [
    "ReleasedFile",
    "ReleasedSizes",
    "convert_folder",
    "convert_released",
    "export_diffusers",
    "export_safetensors",
    "load_released",
    "read_coefficients",
    "read_released",
    "write_coefficients",
]
