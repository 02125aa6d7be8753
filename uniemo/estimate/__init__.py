"""What a configuration needs of a GPU, counted without one."""
