"""UniEmo: which emotion an image evokes, and images that evoke a wanted one."""

from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

__version__ = "0.1.0"
__all__ = ["UniEmoError", "Vocabulary", "__version__"]
