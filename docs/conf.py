"""How Sphinx builds the documentation site: ``make docs``. Every warning is an error."""

from importlib.metadata import version as version_of
from typing import Any

from sphinx.application import Sphinx

project = "kaiju-app"
author = "The kaiju-app contributors"
copyright = author
release = version_of("kaiju-app")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
exclude_patterns = ["dashboard.png"]

# A link to a heading is as good as one to a page: `page.md#the-heading`.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# A reference to one of our public names that does not exist is an error. Nothing is asked over the network while the
# site is built, so that names of other projects are shown without a link. So are our private ones, in signatures.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!kaiju_app).*"), (r"py:.*", r"kaiju_app\.(.*\.)?_.*")]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "inherited-members": "Exception,KeyError,OSError,str,int,tuple"}
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = f"kaiju-app {release}"
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
    "show_nav_level": 2,
}


def find_public_name(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Link a name that is defined in a private module to where it is public."""
    if node.get("refdomain") != "py" or not node["reftarget"].startswith("kaiju_app."):
        return None
    domain, short = env.domains.python_domain, node["reftarget"].rpartition(".")[2]
    found = [each for each in domain.objects if each.startswith("kaiju_app.") and each.rpartition(".")[2] == short]
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, content)


def hide_private_constructor(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    """Show no arguments of a class whose objects only the package itself makes."""
    return ("", None) if what == "class" and signature and ("engine" in signature or "core." in signature) else None


def setup(app: Sphinx) -> None:
    """Let Sphinx call the two functions above."""
    app.connect("missing-reference", find_public_name)
    app.connect("autodoc-process-signature", hide_private_constructor)
