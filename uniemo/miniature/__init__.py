"""The embedded miniature: painted scenes, small networks that know them, and the recipe that trains those."""
