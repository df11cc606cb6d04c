"""What the config of a release may name: classes by registry, and words by argument.

Everything here is data, read by `trusted_config`. A name is on a list after reading what its class
does with its arguments: it builds layers from numbers and reads no file, address or module.
"""
