"""A trained run, put to use: loaded at one of many sizes, asked for classes."""
