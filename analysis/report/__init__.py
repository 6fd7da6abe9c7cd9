"""The report: one static page with the catalogue, its verdicts, figures and errata."""

from plumbline.analysis.report.page import report_page

__all__ = ["report_page"]
