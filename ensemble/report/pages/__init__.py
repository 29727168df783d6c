"""Pages: one self-contained HTML file from a document, with charts and wording."""
