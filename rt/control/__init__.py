"""The control protocol: messages, codec, rules, and the server that speaks it."""
