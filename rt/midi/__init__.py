"""MIDI controllers: what their messages mean, the file that says so, the ports they come in by."""
