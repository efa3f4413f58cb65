"""What a profile says, for people: in words, as Markdown and as an HTML page with plots."""
