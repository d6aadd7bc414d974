"""What a study says: scores.csv, summary.md and report.html, made of the answers that are there."""

from sarmae.evaluate.report.page import REPORT_FILE, SUMMARY_FILE, write_report

__all__ = ["REPORT_FILE", "SUMMARY_FILE", "write_report"]
