"""The recipe that rebuilds the miniature's weights from a seed (``make miniature``)."""
