"""The host: files, resampling, the separation path and the command line."""
