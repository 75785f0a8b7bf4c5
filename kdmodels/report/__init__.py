"""Reports of results: leaderboards, pages in HTML and Markdown, model cards, and generated pages of `docs`."""
