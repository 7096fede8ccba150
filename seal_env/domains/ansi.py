"""Codes that colour text in a terminal."""

BOLD, DIM, GREEN, RED, END = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[0m"
