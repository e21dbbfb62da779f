"""Leave out the scripts of sphinx-thebe: the book starts no remote kernels, and they are loaded twice."""


def _drop(_app, _page, _template, context, _doctree):
    context["script_files"] = [
        script
        for script in context.get("script_files", ())
        if "thebe" not in str(script).lower() and "THEBE" not in str(getattr(script, "attributes", ""))
    ]


def setup(app):
    """Register with Sphinx."""
    app.connect("html-page-context", _drop, priority=900)
    return {"parallel_read_safe": True}
