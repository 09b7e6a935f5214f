"""Mathematics and networks of stemrack; knows no device, thread, socket or clock."""
