"""How each dataset lies on disk; nothing here needs torch or Lightning."""
