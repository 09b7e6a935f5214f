"""Statements about time and the measurements that prove them."""
