"""The answers of an ensemble to images in any number: parts of rows, published once, and chapters of names."""
