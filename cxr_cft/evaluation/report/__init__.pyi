from .facts import Facts as Facts
from .gather import gather_facts as gather_facts
from .page import render_page as render_page

__all__ = ["Facts", "gather_facts", "render_page"]
