"""The lab notes of a person re-identification researcher, made to run"""

__version__ = "0.1.0"
