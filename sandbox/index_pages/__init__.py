"""An encyclopedia's pages on indices, and a server that fails in every way."""

from sandbox.index_pages.pages import Change, Company, constituents_csv, memberships_csv, page
from sandbox.index_pages.server import IndexPages

__all__ = ["Change", "Company", "IndexPages", "constituents_csv", "memberships_csv", "page"]
