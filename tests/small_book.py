"""A book of two small chapters, to be run and refused."""

import nbformat

TITLE, PARAMETERS = "# A small chapter", "N = 2\nDATA = ''"


def notebook(*code):
    cells = [nbformat.v4.new_markdown_cell(TITLE), nbformat.v4.new_code_cell(PARAMETERS)]
    cells[1].metadata["tags"] = ["parameters"]
    cells += [nbformat.v4.new_code_cell(source) for source in code]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def write(folder):
    """Write the book: the second chapter fails where N is 2, the full profile gives N = 20 to the first."""
    for name in ("notebooks", "lib", "profiles", "data"):
        (folder / name).mkdir()
    (folder / "_toc.yml").touch()
    (folder / "lib" / "module.py").write_text("x = 1")
    (folder / "profiles" / "full.yml").write_text("01_first: {N: 20}\n")
    nbformat.write(notebook("print(N ** 2)", "print(repr(DATA))"), folder / "notebooks" / "01_first.ipynb")
    nbformat.write(notebook("x = 1", "1 / (N - 2)"), folder / "notebooks" / "02_second.ipynb")


def printed(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.text for cell in cells if cell.cell_type == "code" for o in cell.outputs if "text" in o)
