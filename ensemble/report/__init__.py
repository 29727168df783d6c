"""What a run found: `document` is report.json, `page` is the HTML page made from it alone."""
