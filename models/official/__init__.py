"""Published checkpoints: known sources, downloads, conversion to safetensors in a process of its own."""
