"""What a study says: scores.csv, summary.md and report.html, made of the answers that are there."""
